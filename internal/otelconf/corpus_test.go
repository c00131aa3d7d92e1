package otelconf

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCorpus checks that real configs have no error. A few are written down here;
// more are read from a folder beside the repository when it is there.
func TestCorpus(t *testing.T) {
	for _, file := range []string{"agent.yaml", "gateway.yaml"} {
		body, err := os.ReadFile(filepath.Join("testdata", "samples", file))
		if err != nil {
			t.Fatal(err)
		}
		noErrors(t, file, Check(parse(t, file, string(body))))
	}
	beside := filepath.Join("..", "..", "..", "shared", "corpus")
	if _, err := os.Stat(beside); err != nil {
		t.Logf("only the samples: %v", err)
		return
	}
	seen := 0
	err := filepath.WalkDir(beside, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "ml") {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		docs := []*Doc{parse(t, path, string(body))}
		if strings.Contains(path, "otelcol-config-") { // an overlay
			base := filepath.Join(filepath.Dir(path), "otelcol-config.yml")
			if body, err = os.ReadFile(base); err != nil {
				return err
			}
			docs = []*Doc{parse(t, base, string(body)), docs[0]}
		}
		merged, problems := Merge(docs, Limits{})
		noErrors(t, path, problems)
		noErrors(t, path, Check(merged))
		return nil
	})
	if err != nil || seen < 10 {
		t.Fatalf("read %d files: %v", seen, err)
	}
}

func parse(t *testing.T, file, body string) *Doc {
	t.Helper()
	d, problems := Parse(file, []byte(body), Limits{})
	if d == nil {
		t.Fatalf("%s does not parse: %v", file, problems)
	}
	return d
}

func noErrors(t *testing.T, file string, problems []Problem) {
	t.Helper()
	for _, p := range problems {
		if p.Severity == Error {
			t.Errorf("%s: %s", file, p)
		} else {
			t.Log(p)
		}
	}
}
