package manifest

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// FuzzParse: whatever the files, there is a Set or there is an error, the answer
// is always the same, and what is accepted is complete.
func FuzzParse(f *testing.F) {
	for _, archive := range archives(f) {
		f.Add(string(txtar.Format(archive)))
	}
	f.Fuzz(func(t *testing.T, text string) {
		snap := fleet.Snapshot{Root: "."}
		for _, m := range txtar.Parse([]byte(text)).Files {
			name, kind, _ := strings.Cut(m.Name, " ")
			source := fleet.Source{Path: name, Body: m.Data}
			switch kind {
			case "symlink":
				source.Kind = fleet.Symlink
			case "submodule":
				source.Kind = fleet.Submodule
			}
			snap.Files = append(snap.Files, source)
		}
		set, problems := parse(snap, Options{})
		failed := false
		for _, p := range problems {
			failed = failed || p.Severity == Error
		}
		if failed != (set == nil) {
			t.Fatalf("a set: %t, problems: %v", set != nil, problems)
		}
		again, same := parse(snap, Options{})
		if diff := cmp.Diff(outcome(set, problems), outcome(again, same)); diff != "" {
			t.Fatal(diff)
		}
		if set == nil {
			return
		}
		for _, r := range set.Rollouts {
			s := r.Spec
			if r.Selector == nil || len(r.ConfigPaths) == 0 || r.Config.Size() == 0 || len(s.Waves) == 0 || s.MaxUnavailable.IsZero() ||
				s.MinHealthyTime >= s.HealthyDeadline || s.HealthyDeadline >= s.ProgressDeadline || s.OnFailure == 0 {
				t.Fatalf("incomplete: %+v", r)
			}
		}
	})
}

// TestFaultRejectsTheRevision: a panic is a problem, not the end of the process.
func TestFaultRejectsTheRevision(t *testing.T) {
	set, problems := guard(func() (*Set, []Problem) { panic(errors.New("oh")) })
	if set != nil || len(problems) != 1 || problems[0].Rule != "internal" {
		t.Errorf("got %v, %v", set, problems)
	}
}
