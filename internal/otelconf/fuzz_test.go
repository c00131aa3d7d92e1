package otelconf

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzParse: whatever the bytes, parsing and checking end without a fault, say
// something when they refuse, and agree with the Collector's own parser about
// what is a config at all; and what merges says the same as before.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, m := range archive.Files {
			f.Add(m.Data)
		}
	}
	for _, s := range scalars() {
		f.Add([]byte("a: " + s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		d, problems := Parse("f", body, Limits{Nodes: 10_000})
		if !bytes.Equal(given, body) {
			t.Fatal("the body was changed")
		}
		if (d == nil) != Failed(problems) {
			t.Fatalf("doc %v with problems %v", d != nil, problems)
		}
		if d == nil {
			return
		}
		if _, err := conf(body); err != nil {
			t.Fatalf("the Collector refuses what we take: %v", err)
		}
		Check(d)
		if d.Empty() {
			return
		}
		merged, problems := Merge([]*Doc{d, d}, Limits{})
		if merged == nil {
			if !Failed(problems) {
				t.Fatal("no merge and no problem")
			}
			return
		}
		again, problems := Parse("again", merged.Body, Limits{})
		if again == nil || !again.root.same(merged.root) {
			t.Fatalf("the merge says something else: %v\n%s", problems, merged.Body)
		}
	})
}
