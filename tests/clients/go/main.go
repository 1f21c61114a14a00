// The AWS SDK for Go v2 on a running daemon, KMS and STS: data keys, grants, signatures, pages.
//
//	python tests/clients/daemon.py go run -C tests/clients/go .
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	// Blob version 1 of a 32-byte data key: header, nonce, ciphertext, tag.
	blobBytes  = 24 + 24 + 32 + 16
	containers = 20
	grants     = 5
)

var background = context.Background()

type roles struct{ admin, provisioner, consumer *kms.Client }

func main() {
	mill := find()
	role := func(name string) *kms.Client { return kms.NewFromConfig(mill.config(mill.Principals[name])) }
	as := roles{role("admin"), role("provisioner"), role("consumer")}
	key := must(as.admin.CreateKey(background, &kms.CreateKeyInput{Description: aws.String("Zoë")})).KeyMetadata
	alias := aws.String("alias/go")
	must(as.admin.CreateAlias(background, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: key.KeyId}))

	dataKeys(as, key, alias)
	grantsOfOneKey(as, mill, key)
	signatures(as)
	listings(as, key, alias)
	refusals(as, mill, key)
	callers(mill)
	mill.report("AWS SDK for Go v2", "github.com/aws/aws-sdk-go-v2/service/kms")
}

// dataKeys are minted by the provisioner, and opened by the consumer under their context alone.
func dataKeys(as roles, key *types.KeyMetadata, alias *string) {
	seen := map[string]bool{}
	for number := range containers {
		bound := map[string]string{"container": fmt.Sprintf("container-%012d", number), "tenant": "Zoë"}
		made := must(as.provisioner.GenerateDataKeyWithoutPlaintext(background, &kms.GenerateDataKeyWithoutPlaintextInput{
			KeyId: alias, KeySpec: types.DataKeySpecAes256, EncryptionContext: bound,
		}))
		hold(*made.KeyId == *key.Arn && len(made.CiphertextBlob) == blobBytes, "%+v", made)
		opened := must(as.consumer.Decrypt(background, &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, EncryptionContext: bound}))
		hold(*opened.KeyId == *key.Arn && len(opened.Plaintext) == 32, "%+v", opened)
		hold(*opened.KeyMaterialId == *made.KeyMaterialId, "%s is not %s", *opened.KeyMaterialId, *made.KeyMaterialId)
		seen[string(opened.Plaintext)], seen[string(made.CiphertextBlob)] = true, true

		_, err := as.consumer.Decrypt(background, &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob})
		refused[*types.InvalidCiphertextException]("InvalidCiphertextException", err)
		_, err = as.provisioner.Decrypt(background, &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, EncryptionContext: bound})
		coded("AccessDeniedException", err)
	}
	hold(len(seen) == 2*containers, "a data key came twice")
	made := must(as.admin.GenerateDataKey(background, &kms.GenerateDataKeyInput{KeyId: key.Arn, NumberOfBytes: aws.Int32(64)}))
	opened := must(as.consumer.Decrypt(background, &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, KeyId: key.KeyId}))
	hold(len(made.Plaintext) == 64 && bytes.Equal(made.Plaintext, opened.Plaintext), "the data key is another one")
}

// grantsOfOneKey let the provisioner open what is bound to the grant's context, until they are gone.
func grantsOfOneKey(as roles, mill *daemon, key *types.KeyMetadata) {
	bound, other := map[string]string{"tenant": "Zoë", "volume": "1"}, map[string]string{"tenant": "Eve"}
	seal := func(context map[string]string) []byte {
		return must(as.admin.Encrypt(background, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("text"), EncryptionContext: context})).CiphertextBlob
	}
	open := func(blob []byte, context map[string]string, tokens ...string) ([]byte, error) {
		opened, err := as.provisioner.Decrypt(background, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: context, GrantTokens: tokens})
		if err != nil {
			return nil, err
		}
		return opened.Plaintext, nil
	}
	inside, outside := seal(bound), seal(other)
	_, err := open(inside, bound)
	coded("AccessDeniedException", err)
	var made []*kms.CreateGrantOutput
	for number := range grants {
		made = append(made, must(as.admin.CreateGrant(background, &kms.CreateGrantInput{
			KeyId: key.KeyId, GranteePrincipal: aws.String(mill.Principals["provisioner"].Arn), Name: aws.String(fmt.Sprintf("grant-%d", number)),
			Operations:        []types.GrantOperation{types.GrantOperationDecrypt},
			RetiringPrincipal: aws.String(mill.Principals["consumer"].Arn),
			Constraints:       &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "Zoë"}},
		})))
	}
	hold(string(must(open(inside, bound, *made[0].GrantToken))) == "text", "the grant opens another text")
	_, err = open(outside, other, *made[0].GrantToken)
	coded("AccessDeniedException", err)

	listed, pages := map[string]bool{}, kms.NewListGrantsPaginator(as.admin, &kms.ListGrantsInput{KeyId: key.KeyId, Limit: aws.Int32(2)})
	for pages.HasMorePages() {
		page := must(pages.NextPage(background))
		hold(len(page.Grants) <= 2, "%d grants on a page of two", len(page.Grants))
		for _, grant := range page.Grants {
			listed[*grant.GrantId] = true
		}
	}
	for number, grant := range made {
		hold(listed[*grant.GrantId], "grant %d is not listed", number)
		if number%2 == 0 {
			must(as.admin.RevokeGrant(background, &kms.RevokeGrantInput{KeyId: key.KeyId, GrantId: grant.GrantId}))
		} else {
			must(as.consumer.RetireGrant(background, &kms.RetireGrantInput{GrantToken: grant.GrantToken}))
		}
	}
	hold(len(listed) == grants, "%d grants are listed", len(listed))
	_, err = open(inside, bound)
	coded("AccessDeniedException", err)
}

// signatures are checked with the key that was exported, without the daemon, and by it.
func signatures(as roles) {
	text, digest := []byte("what a container holds"), sha256.Sum256([]byte("what a container holds"))
	sign := func(spec types.KeySpec, algorithm types.SigningAlgorithmSpec) (any, []byte) {
		key := must(as.admin.CreateKey(background, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeSignVerify})).KeyMetadata
		made := must(as.admin.Sign(background, &kms.SignInput{KeyId: key.KeyId, Message: text, SigningAlgorithm: algorithm}))
		verify := &kms.VerifyInput{KeyId: key.KeyId, Message: digest[:], MessageType: types.MessageTypeDigest, Signature: made.Signature, SigningAlgorithm: algorithm}
		hold(must(as.admin.Verify(background, verify)).SignatureValid, "%s does not verify", algorithm)
		verify.Message = bytes.Repeat([]byte{1}, 32)
		_, err := as.admin.Verify(background, verify)
		refused[*types.KMSInvalidSignatureException]("KMSInvalidSignatureException", err)
		public := must(as.admin.GetPublicKey(background, &kms.GetPublicKeyInput{KeyId: key.KeyId}))
		return must(x509.ParsePKIXPublicKey(public.PublicKey)), made.Signature
	}
	public, signature := sign(types.KeySpecEccNistP256, types.SigningAlgorithmSpecEcdsaSha256)
	hold(ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signature), "not an ECDSA signature of the text")
	public, signature = sign(types.KeySpecRsa2048, types.SigningAlgorithmSpecRsassaPssSha256)
	check(rsa.VerifyPSS(public.(*rsa.PublicKey), crypto.SHA256, digest[:], signature, nil))
}

// listings come in pages, and each entry once.
func listings(as roles, key *types.KeyMetadata, alias *string) {
	keys, ofKeys := map[string]int{}, kms.NewListKeysPaginator(as.admin, &kms.ListKeysInput{Limit: aws.Int32(1)})
	pages := 0
	for ; ofKeys.HasMorePages(); pages++ {
		for _, entry := range must(ofKeys.NextPage(background)).Keys {
			keys[*entry.KeyArn]++
		}
	}
	hold(keys[*key.Arn] == 1 && pages >= len(keys) && len(keys) > 3, "%v on %d pages", keys, pages)
	aliases, ofAliases := map[string]string{}, kms.NewListAliasesPaginator(as.admin, &kms.ListAliasesInput{Limit: aws.Int32(1)})
	for ofAliases.HasMorePages() {
		for _, entry := range must(ofAliases.NextPage(background)).Aliases {
			aliases[*entry.AliasName] = aws.ToString(entry.TargetKeyId)
		}
	}
	hold(aliases[*alias] == *key.KeyId && len(aliases) >= 3, "%v", aliases)

	var told []types.Tag
	for number := range containers {
		told = append(told, types.Tag{TagKey: aws.String(fmt.Sprintf("tag-%d", number)), TagValue: aws.String("Zoë")})
	}
	must(as.admin.TagResource(background, &kms.TagResourceInput{KeyId: key.KeyId, Tags: told}))
	kept, ofTags := map[string]string{}, kms.NewListResourceTagsPaginator(as.admin, &kms.ListResourceTagsInput{KeyId: key.KeyId, Limit: aws.Int32(7)})
	for ofTags.HasMorePages() {
		for _, tag := range must(ofTags.NextPage(background)).Tags {
			kept[*tag.TagKey] = *tag.TagValue
		}
	}
	hold(len(kept) == containers && kept["tag-13"] == "Zoë", "%v", kept)
}

// refusals have the types of the SDK.
func refusals(as roles, mill *daemon, key *types.KeyMetadata) {
	ask := &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: aws.String("alias/absent"), KeySpec: types.DataKeySpecAes256}
	_, err := as.admin.GenerateDataKeyWithoutPlaintext(background, ask)
	refused[*types.NotFoundException]("NotFoundException", err)
	must(as.admin.DisableKey(background, &kms.DisableKeyInput{KeyId: key.KeyId}))
	ask.KeyId = key.KeyId
	_, err = as.admin.GenerateDataKeyWithoutPlaintext(background, ask)
	refused[*types.DisabledException]("DisabledException", err)
	must(as.admin.EnableKey(background, &kms.EnableKeyInput{KeyId: key.KeyId}))
	ask.DryRun = aws.Bool(true)
	_, err = as.admin.GenerateDataKeyWithoutPlaintext(background, ask)
	refused[*types.DryRunOperationException]("DryRunOperationException", err)
	forger := mill.Principals["admin"]
	forger.SecretAccessKey = "another"
	_, err = kms.NewFromConfig(mill.config(forger)).ListKeys(background, &kms.ListKeysInput{})
	coded("InvalidSignatureException", err)
}

// callers ask AWS STS, on the same endpoint, who they are.
func callers(mill *daemon) {
	for name, principal := range mill.Principals {
		if principal.AccessKeyID == "" {
			continue
		}
		said := must(sts.NewFromConfig(mill.config(principal)).GetCallerIdentity(background, &sts.GetCallerIdentityInput{}))
		hold(*said.Arn == principal.Arn && *said.Account == mill.Account, "%s is %s", name, *said.Arn)
	}
	stranger := mill.Principals["admin"]
	stranger.AccessKeyID = "AKIDSTRANGER"
	_, err := sts.NewFromConfig(mill.config(stranger)).GetCallerIdentity(background, &sts.GetCallerIdentityInput{})
	coded("InvalidClientTokenId", err)
}
