package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
)

// A principal is one of those that keymill dev has made.
type principal struct {
	Arn             string
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

// A daemon is what runs, as its JSON line in DAEMON has it.
type daemon struct {
	Endpoint   string
	Region     string
	Account    string
	Principals map[string]principal
	calls      atomic.Int64
}

func find() *daemon {
	found := new(daemon)
	check(json.Unmarshal([]byte(os.Getenv("DAEMON")), found))
	return found
}

// Do sends a request and counts it.
func (d *daemon) Do(request *http.Request) (*http.Response, error) {
	d.calls.Add(1)
	return http.DefaultClient.Do(request)
}

// config is what an SDK's client of a principal is made with.
func (d *daemon) config(who principal) aws.Config {
	return aws.Config{
		Region:       d.Region,
		BaseEndpoint: aws.String(d.Endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(who.AccessKeyID, who.SecretAccessKey, ""),
		HTTPClient:   d,
	}
}

// report leaves the line that names a client, whose module is at the version that was built. A
// client that made no call fails.
func (d *daemon) report(name, module string) {
	calls := d.calls.Load()
	hold(calls > 0, "%s made no call", name)
	line := fmt.Sprintf("%s %s: %d calls\n", name, strings.TrimPrefix(version(module), "v"), calls)
	folder := os.Getenv("CLIENT_LINES")
	check(os.MkdirAll(folder, 0o755))
	check(os.WriteFile(filepath.Join(folder, strings.ReplaceAll(strings.ToLower(name), " ", "-")), []byte(line), 0o644))
	fmt.Print(line)
}

func version(module string) string {
	build, _ := debug.ReadBuildInfo()
	for _, built := range build.Deps {
		if built.Path == module {
			return built.Version
		}
	}
	log.Panicf("%s was not built in", module)
	return ""
}

// must returns what a call has answered. A call that was refused ends the program.
func must[T any](answer T, err error) T {
	check(err)
	return answer
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func hold(holds bool, otherwise string, told ...any) {
	if !holds {
		log.Panicf(otherwise, told...)
	}
}

// refused holds a refusal to its code and to the type that the SDK has for it.
func refused[E error](code string, err error) {
	var typed E
	hold(errors.As(err, &typed), "%v is not a %T", err, typed)
	coded(code, err)
}

// coded holds a refusal to its code.
func coded(code string, err error) {
	var said smithy.APIError
	hold(errors.As(err, &said) && said.ErrorCode() == code, "%v instead of %s", err, code)
}
