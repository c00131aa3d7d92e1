package manifest

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

var rewrite = flag.Bool("rewrite", false, "write what came out into the archives; read the diff")

// want is the member of an archive with what Parse must say: the problems, or a
// summary of the Set.
const want = "want"

// TestArchives parses each archive of testdata as a repository. A comment line
// "# option: value" gives an option (allow-empty, git-path, limit-file,
// limit-problems). A member "PATH symlink", "PATH submodule" or "PATH quoted" is a
// link with its target, a submodule, or a file written as one Go string for bytes
// that an archive cannot hold; "PATH quoted" may repeat itself with "STRING * N".
func TestArchives(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			snap, opts, wanted := repository(t, archive)
			got := outcome(Parse(snap, opts))
			if *rewrite {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == want })
				archive.Files = append(archive.Files, txtar.File{Name: want, Data: []byte(got)})
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

func repository(t testing.TB, archive *txtar.Archive) (snap fleet.Snapshot, opts Options, wanted string) {
	t.Helper()
	snap = fleet.Snapshot{Root: ".", Revision: fleet.Revision{ID: "test"}}
	for line := range strings.Lines(string(archive.Comment)) {
		option, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), ": ")
		if !ok {
			continue
		}
		number, _ := strconv.Atoi(value)
		switch option {
		case "allow-empty":
			opts.AllowEmpty = value == "true"
		case "git-path":
			snap.Root = value
		case "limit-file":
			opts.Limits.File.FileSize = number
		case "limit-problems":
			opts.Limits.Problems = number
		}
	}
	for _, f := range archive.Files {
		if f.Name == want {
			wanted = string(f.Data)
			continue
		}
		snap.Files = append(snap.Files, member(t, f))
	}
	slices.SortFunc(snap.Files, func(a, b fleet.Source) int { return strings.Compare(a.Path, b.Path) })
	return snap, opts, wanted
}

func member(t testing.TB, f txtar.File) fleet.Source {
	t.Helper()
	name, kind, _ := strings.Cut(f.Name, " ")
	source := fleet.Source{Path: name, Body: f.Data}
	switch kind {
	case "symlink":
		source.Kind, source.Body = fleet.Symlink, bytes.TrimSpace(f.Data)
	case "submodule":
		source.Kind, source.Body = fleet.Submodule, nil
	case "quoted":
		source.Body = nil
		for line := range strings.Lines(string(f.Data)) {
			text, times, repeated := strings.Cut(strings.TrimSpace(line), " * ")
			s, err := strconv.Unquote(text)
			if err != nil {
				t.Fatalf("%s: %s: %v", f.Name, text, err)
			}
			n := 1
			if repeated {
				if n, err = strconv.Atoi(times); err != nil {
					t.Fatalf("%s: %v", f.Name, err)
				}
			}
			source.Body = append(source.Body, strings.Repeat(s, n)...)
		}
	}
	return source
}

// outcome is the problems and, if there is one, the Set, for people to read.
func outcome(set *Set, problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, p)
	}
	if set == nil {
		return b.String()
	}
	fmt.Fprintln(&b, "accepted")
	for _, r := range set.Rollouts {
		s := r.Spec
		fmt.Fprintf(&b, "rollout %s (%s:%d) priority %d selects %s\n", r.Name, r.File, r.Line, r.Priority, r.Selector)
		fmt.Fprintf(&b, "  maxUnavailable %s, times %s %s %s, on failure %s, paused %t, retry %q\n", s.MaxUnavailable,
			s.MinHealthyTime, s.HealthyDeadline, s.ProgressDeadline, s.OnFailure, s.Paused, s.RetryToken)
		for _, w := range s.Waves {
			who := "anybody"
			if w.Selector != nil {
				who = fmt.Sprint(w.Selector)
			}
			fmt.Fprintf(&b, "  wave %s: %s of %s, bake %s, max failures %d, on failure %q\n", w.Name, w.Size, who, w.Bake, w.MaxFailures, w.OnFailure)
		}
		fmt.Fprintf(&b, "  config %s\n", strings.Join(r.ConfigPaths, " + "))
		if len(r.ConfigPaths) > 1 {
			for line := range strings.Lines(string(r.Config.Files[0].Body)) {
				fmt.Fprintf(&b, "  | %s", line)
			}
		}
	}
	for _, l := range set.Labels {
		fmt.Fprintf(&b, "labels (%s:%d) %s get %s\n", l.File, l.Line, l.Match, l.Set)
	}
	return b.String()
}

// TestOutcomeIsRepeatable: the same files give the same answer, problems included.
func TestOutcomeIsRepeatable(t *testing.T) {
	for name, archive := range archives(t) {
		snap, opts, _ := repository(t, archive)
		first := outcome(Parse(snap, opts))
		for range 5 {
			if again := outcome(Parse(snap, opts)); again != first {
				t.Errorf("%s: %s", name, cmp.Diff(first, again))
			}
		}
	}
}

func archives(t testing.TB) map[string]*txtar.Archive {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	all := map[string]*txtar.Archive{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = archive
	}
	if len(slices.Collect(maps.Keys(all))) != len(files) {
		t.Fatal("two archives of one name")
	}
	return all
}
