//! Every way of taking a right away, against everything that goes on for a while: nothing is made
//! once the call that took it has been answered.

use super::ErrorCode as Code;
use super::rows::{containers, stream};
use super::*;
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;

const ACTIONS: [&str; 4] = [
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:Decrypt",
];
const COLUMNS: &str = "context=tenant,id";
const CERTIFICATE_ENDS: Timestamp = Timestamp(NOW.0 + 60_000_000);
const SESSION_SECONDS: u64 = 900;

/// Who asks, and what it has its right from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    AccessKey,
    Socket,
    Certificate,
    Session,
    Grant,
    KeyPolicy,
}

/// What takes the right away.
#[derive(Clone, Copy, Debug)]
enum Taken {
    Administered(&'static str),
    MadeAnew,
    AccessKeyInactive,
    AccessKeyDeleted,
    Policies,
    Time(u64),
    Called(&'static str),
}

const CASES: [(&[By], Taken, Code); 13] = {
    use By::*;
    use Code::*;
    use Taken::*;
    const ALL: &[By] = &[AccessKey, Socket, Certificate, Session, Grant, KeyPolicy];
    const ITSELF: &[By] = &[AccessKey, Socket, Certificate, Session];
    [
        (
            ALL,
            Administered("DisablePrincipal"),
            UnrecognizedClientException,
        ),
        (
            ALL,
            Administered("DeletePrincipal"),
            UnrecognizedClientException,
        ),
        (ALL, MadeAnew, UnrecognizedClientException),
        (&[AccessKey], AccessKeyInactive, UnrecognizedClientException),
        (&[AccessKey], AccessKeyDeleted, UnrecognizedClientException),
        (ITSELF, Policies, AccessDeniedException),
        (
            &[Certificate],
            Time(61),
            MissingAuthenticationTokenException,
        ),
        (&[Session], Time(SESSION_SECONDS), ExpiredTokenException),
        (&[Grant], Called("RevokeGrant"), AccessDeniedException),
        (&[Grant], Called("RetireGrant"), AccessDeniedException),
        (ALL, Called("PutKeyPolicy"), AccessDeniedException),
        (ALL, Called("DisableKey"), DisabledException),
        (ALL, Called("ScheduleKeyDeletion"), KMSInvalidStateException),
    ]
};

/// One principal with its right to one key.
struct Scene {
    bench: Bench,
    by: By,
    key: String,
    requester: Requester,
    grant: Value,
}

impl Scene {
    async fn new(by: By) -> Self {
        let bench = Bench::new().await;
        let key = bench.key().await;
        let arn = create(&bench, by).await;
        let entry = Arc::clone(&bench.api.keystore.snapshot().principals[arn.as_str()]);
        let local = Requester::local(Arc::clone(&entry.principal));
        let requester = match by {
            By::AccessKey | By::Grant | By::KeyPolicy => Requester {
                access_key: Some(Arc::clone(&entry.access_keys[0])),
                ..local
            },
            By::Socket => local,
            By::Certificate => Requester {
                until: Some(CERTIFICATE_ENDS),
                ..local
            },
            By::Session => {
                let session = entry.principal.session("nightly", NOW).unwrap();
                let end = NOW.after(Duration::from_secs(SESSION_SECONDS));
                Requester::local(Arc::new(session.with_expiration(end)))
            }
        };
        let mut grant = Value::Null;
        if by == By::Grant {
            let operations = [
                "GenerateDataKeyWithoutPlaintext",
                "ReEncryptFrom",
                "ReEncryptTo",
                "Decrypt",
            ];
            let body = json!({"KeyId": key, "GranteePrincipal": arn, "Operations": operations});
            grant = bench.done("CreateGrant", body).await;
        }
        if by == By::KeyPolicy {
            let statements = json!([to(&arn, &ACTIONS), to(&root_of(ACCOUNT), &["kms:*"])]);
            bench.put_policy(&key, statements).await;
        }
        Self {
            bench,
            by,
            key,
            requester,
            grant,
        }
    }

    async fn take(&self, taken: Taken) {
        let (bench, arn) = (&self.bench, self.requester.principal.lasting_arn());
        let key = || json!({"KeyId": self.key});
        let access_key = || {
            let id = &self.requester.access_key.as_ref().unwrap().id;
            json!({"Name": arn, "AccessKeyId": id})
        };
        match taken {
            Taken::Administered(name) => {
                bench.administer(name, json!({"Name": arn})).await.unwrap();
            }
            Taken::MadeAnew => {
                let name = json!({"Name": arn});
                bench.administer("DeletePrincipal", name).await.unwrap();
                create(bench, self.by).await;
            }
            Taken::AccessKeyInactive => {
                let mut body = access_key();
                body["Status"] = json!("Inactive");
                bench.administer("UpdateAccessKey", body).await.unwrap();
            }
            Taken::AccessKeyDeleted => {
                let deleted = bench.administer("DeleteAccessKey", access_key());
                deleted.await.unwrap();
            }
            Taken::Policies => {
                let body = json!({"Name": arn, "Policies": []});
                bench
                    .administer("PutPrincipalPolicies", body)
                    .await
                    .unwrap();
            }
            Taken::Time(seconds) => bench.api.clock.advance(Duration::from_secs(seconds)),
            Taken::Called("RevokeGrant") => {
                let mut body = key();
                body["GrantId"] = self.grant["GrantId"].clone();
                bench.done("RevokeGrant", body).await;
            }
            Taken::Called("RetireGrant") => {
                let body = json!({"GrantToken": self.grant["GrantToken"]});
                bench.done("RetireGrant", body).await;
            }
            Taken::Called("PutKeyPolicy") => {
                let mut deny = to("*", &ACTIONS);
                deny["Effect"] = json!("Deny");
                let statements = json!([deny, to(&root_of(ACCOUNT), &["kms:*"])]);
                bench.put_policy(&self.key, statements).await;
            }
            Taken::Called(name) => {
                bench.done(name, key()).await;
            }
        }
    }

    async fn single(&self) -> Result<(), Code> {
        let operation = Operation::named("GenerateDataKeyWithoutPlaintext").unwrap();
        let body = json!({"KeyId": self.key, "KeySpec": "AES_256"}).to_string();
        let called = self
            .bench
            .api
            .call(operation, &self.requester, body.as_bytes());
        called.await.map(drop).map_err(|error| error.code())
    }

    fn batch(&self) -> DataKeys {
        let body = json!({"KeyId": self.key, "KeySpec": "AES_256", "Count": 1_000_000});
        let body = body.to_string();
        let batch = self.bench.api.data_keys(&self.requester, body.as_bytes());
        batch.unwrap()
    }

    fn rows(&self, purpose: Purpose, sent: &[RecordBatch]) -> Rows {
        let query = match purpose {
            Purpose::Bind => format!("key={}&spec=AES_256&{COLUMNS}", self.key),
            Purpose::Rewrap => format!("key={}&{COLUMNS}", self.key),
            Purpose::Verify => COLUMNS.to_owned(),
        };
        let stream_of_rows = self.bench.api.containers(&self.requester, purpose, &query);
        Rows {
            purpose,
            input: stream(sent).into(),
            answer: Vec::new(),
            stream: stream_of_rows.unwrap(),
        }
    }
}

/// The principal under its name: a user, or for sessions a role.
async fn create(bench: &Bench, by: By) -> String {
    let may = match by {
        By::Grant | By::KeyPolicy => allowing(&["s3:GetObject"]),
        _ => allowing(&ACTIONS),
    };
    let kind = match by {
        By::Session => "role",
        _ => "user",
    };
    let body = json!({"Name": "p", "Kind": kind, "Policies": [may.to_string()]});
    let created = bench.administer("CreatePrincipal", body).await.unwrap();
    created["Arn"].as_str().unwrap().to_owned()
}

/// A stream of containers, and what it has answered.
struct Rows {
    purpose: Purpose,
    input: Bytes,
    answer: Vec<u8>,
    stream: RowStream,
}

impl Rows {
    /// Makes the next chunk.
    fn next(&mut self) -> Result<(), Code> {
        loop {
            self.stream.feed(&mut self.input).unwrap();
            match self.stream.step().map_err(|error| error.code())? {
                Step::Hungry => {}
                Step::Rows(bytes, _) => {
                    self.answer.extend(bytes);
                    return Ok(());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What became of the rows of the last chunk: those of `verify` say it themselves.
    fn outcome(&mut self) -> Result<(), Code> {
        self.next()?;
        if self.purpose != Purpose::Verify {
            return Ok(());
        }
        let batches = StreamReader::try_new(&self.answer[..], None).unwrap();
        let last = batches.map_while(Result::ok).last().unwrap();
        let refusals = last.column_by_name("refusal").unwrap();
        let refusals = refusals.as_string::<i32>();
        if refusals.null_count() == refusals.len() {
            return Ok(());
        }
        assert_eq!(refusals.null_count(), 0, "no row of the chunk opens");
        let codes = refusals.iter().flatten().map(|text| {
            let name = text.split(':').next().unwrap();
            let named = |code: &&Code| code.name() == name;
            *Code::ALL.iter().find(named).unwrap()
        });
        let mut codes: Vec<_> = codes.collect();
        codes.dedup();
        assert_eq!(codes.len(), 1, "{refusals:?}");
        Err(codes[0])
    }
}

/// Two record batches with a blob of `key` in each row, so that each stream has two chunks.
fn sealed(bench: &Bench, key: &str) -> [RecordBatch; 2] {
    let query = format!("key={key}&spec=AES_256&{COLUMNS}");
    let mut bound = bench.bind(&bench.admin, &query);
    let sent = stream(&[containers(7, 3)]);
    let answer = rows::run(&mut bound, &sent, sent.len()).unwrap();
    let mut batches = StreamReader::try_new(&answer[..], None).unwrap();
    let rows = batches.next().unwrap().unwrap();
    let columns = ["id", "tenant", "ciphertext_blob"];
    let columns = columns.map(|name| (name, Arc::clone(rows.column_by_name(name).unwrap())));
    let rows = rows::batch(columns);
    [rows.clone(), rows]
}

#[tokio::test]
async fn auth_3_nothing_is_made_once_a_right_has_been_taken_away() {
    for (by, taken, code) in CASES {
        for by in by {
            ends(*by, taken, code).await;
        }
    }
}

async fn ends(by: By, taken: Taken, code: Code) {
    let scene = Scene::new(by).await;
    let blobs = sealed(&scene.bench, &scene.key);
    let bare = [containers(7, 3), containers(7, 3)];
    let mut batch = scene.batch();
    let mut streams = [
        scene.rows(Purpose::Bind, &bare),
        scene.rows(Purpose::Rewrap, &blobs),
        scene.rows(Purpose::Verify, &blobs),
    ];
    let mut out = Vec::new();
    assert_eq!(scene.single().await, Ok(()), "{by:?}");
    batch.blobs(&mut out);
    for rows in &mut streams {
        assert_eq!(rows.outcome(), Ok(()), "{by:?} {:?}", rows.purpose);
    }

    scene.take(taken).await;

    let before = out.len();
    let ended = batch.next_chunk(&mut out).map_err(|error| error.code());
    assert_eq!(ended, Err(code), "a batch of {by:?}, {taken:?}");
    assert_eq!(out.len(), before, "nothing of the chunk is left");
    for rows in &mut streams {
        let ended = rows.outcome();
        assert_eq!(ended, Err(code), "{:?} of {by:?}, {taken:?}", rows.purpose);
    }
    assert_eq!(scene.single().await, Err(code), "{by:?}, {taken:?}");
}

#[tokio::test]
async fn auth_3_what_is_made_active_again_or_has_another_tag_goes_on() {
    let scene = Scene::new(By::AccessKey).await;
    let (mut batch, mut out) = (scene.batch(), Vec::new());
    batch.blobs(&mut out);
    scene.take(Taken::AccessKeyInactive).await;
    let id = &scene.requester.access_key.as_ref().unwrap().id;
    let body = json!({"Name": "p", "AccessKeyId": id, "Status": "Active"});
    scene
        .bench
        .administer("UpdateAccessKey", body)
        .await
        .unwrap();
    let tags = json!({"Name": "p", "Tags": [{"Key": "a", "Value": "b"}]});
    scene
        .bench
        .administer("PutPrincipalTags", tags)
        .await
        .unwrap();
    assert_eq!(batch.blobs(&mut out), DataKeys::CHUNK_KEYS);
}
