package otelconf

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var rewrite = flag.Bool("rewrite", false, "write what came out into the archives; read the diff")

// TestArchives checks each config of each archive by itself, or, in archives
// named merge-*, all of them laid over each other. The member "want" is what must
// come out.
func TestArchives(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			wanted := ""
			archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool {
				if f.Name == "want" {
					wanted = string(f.Data)
				}
				return f.Name == "want"
			})
			got := outcome(archive.Files, strings.HasPrefix(name, "merge-"))
			if *rewrite {
				archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(wanted, got); diff != "" {
				t.Errorf("-want +got (run with -rewrite to accept):\n%s", diff)
			}
		})
	}
}

func outcome(files []txtar.File, together bool) string {
	var b strings.Builder
	show := func(problems []Problem) {
		for _, p := range problems {
			fmt.Fprintln(&b, p)
		}
	}
	var docs []*Doc
	for _, f := range files {
		d, problems := Parse(f.Name, f.Data, Limits{})
		show(problems)
		if d == nil {
			continue
		}
		docs = append(docs, d)
		if together {
			continue
		}
		if problems = Check(d); len(problems) == 0 {
			fmt.Fprintf(&b, "%s: no problem\n", f.Name)
		}
		show(problems)
	}
	if !together || len(docs) < len(files) {
		return b.String()
	}
	merged, problems := Merge(docs, Limits{})
	show(problems)
	if merged != nil {
		show(Check(merged))
		fmt.Fprintf(&b, "---\n%s", merged.Body)
	}
	return b.String()
}

// TestSingleFileKeepsItsBytes: one file is what it is, comments, CRLF and all.
func TestSingleFileKeepsItsBytes(t *testing.T) {
	body := "# hello\r\nreceivers: {otlp: } \r\n\r\n"
	merged, problems := Merge([]*Doc{parse(t, "x.yaml", body)}, Limits{})
	if len(problems) > 0 || string(merged.Body) != body {
		t.Errorf("got %q, %v", merged.Body, problems)
	}
}

// TestHostileFilesAreCheap: files built to be slow are refused, or done in time
// that grows with their size. There is no clock in it: work that grew with the
// square would be noticed by whoever waits for this test.
func TestHostileFilesAreCheap(t *testing.T) {
	many := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			if strings.Contains(format, "%") {
				fmt.Fprintf(&b, format, i)
			} else {
				b.WriteString(format)
			}
		}
		return b.String()
	}
	top := "receivers: {otlp: }\nexporters: {debug: }\n"
	for name, body := range map[string]string{
		"keys":       "a:\n" + many("  k%d: 1\n", 20_000),
		"components": top + "processors:\n" + many("  batch/%d:\n", 8_000) + "service: {pipelines: {traces: {receivers: [otlp], exporters: [debug], processors: [" + many("bacth/%d, ", 8_000) + "]}}}\n",
		"cycle":      top + "connectors: {forward: , count: }\nservice:\n  pipelines:\n" + many("    traces/%d: {receivers: [count, forward], exporters: [count, forward]}\n", 5_000),
		"unknown":    many("receivres%d: 1\n", 10_000),
		"open lists": "a: " + many("[", 900_000),
		"open maps":  "a: " + many("{a: ", 200_000),
		"aliases":    "a: &a {}\nb: [" + many("*a, ", 50_000) + "]\n",
		"anchors":    many("a%d: &a 1\n", 15_000),
	} {
		d, _ := Parse(name, []byte(body), Limits{})
		if d == nil {
			continue
		}
		if problems := Check(d); len(problems) == 0 {
			t.Errorf("%s: no problem found", name)
		}
		if _, problems := Merge([]*Doc{d, d}, Limits{}); Failed(problems) && problems[0].Rule != "merge" {
			t.Errorf("%s: merging: %v", name, problems[0])
		}
	}
}
