// SPDX-License-Identifier: Apache-2.0

package report

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
)

// extract returns the files of an archive.
func extract(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	plain, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(plain); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content)
	}
}

// TestWrite: each source is a file, and what it can't read is told beside.
func TestWrite(t *testing.T) {
	source := func(name, content string, err error) Source {
		return Source{name, func(context.Context) ([]byte, error) { return []byte(content), err }}
	}
	var archive bytes.Buffer
	err := Write(t.Context(), &archive, []Source{
		source("a.txt", "all", nil), source("b/half.txt", "half", errors.New("no more")),
		source("none.txt", "", errors.New("nothing")),
		source("large.txt", strings.Repeat("x", maxFile+1), nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := extract(t, &archive)
	if n := len(got["weave-report/large.txt"]); n != maxFile {
		t.Errorf("a file of %d bytes, want %d", n, maxFile)
	}
	delete(got, "weave-report/large.txt")
	want := map[string]string{
		"weave-report/a.txt": "all", "weave-report/b/half.txt": "half", "weave-report/b/half.txt.error": "no more\n",
		"weave-report/none.txt.error":  "nothing\n",
		"weave-report/large.txt.error": fmt.Sprintf("cut off after %d bytes\n", maxFile),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}

// TestLog: the end of the log is kept, without what Docker's calls carry, which the log itself has still.
func TestLog(t *testing.T) {
	log, kept := logrus.New(), NewLog()
	var whole bytes.Buffer
	log.SetOutput(&whole)
	log.SetLevel(logrus.DebugLevel)
	log.AddHook(kept)
	log.WithField("body", `{"Options":{"password":"s3cret"}}`).WithField("call", "CreateNetwork").Debug("request")
	log.Trace("not of this level")
	if text := string(kept.Bytes()); strings.Contains(text, "s3cret") || !strings.Contains(text, "call=CreateNetwork") {
		t.Errorf("kept %q, want the call without its body", text)
	}
	if !strings.Contains(whole.String(), "s3cret") {
		t.Errorf("the log itself lacks the body: %q", whole.String())
	}
	for i := range 3000 {
		log.Infof("%d %s", i, strings.Repeat("x", 1000))
	}
	text := string(kept.Bytes())
	if len(text) > maxLog || len(text) < maxLog/2 || !strings.Contains(text, `"2999 x`) ||
		strings.Contains(text, "request") {
		t.Errorf("%d bytes are kept, from %.80q on, want the last %d", len(text), text, maxLog)
	}
}
