package manifest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// FuzzParse: whatever the files, there is a Set or there is an error, the answer
// is always the same, and what is accepted is complete.
func FuzzParse(f *testing.F) {
	for _, archive := range archives(f) {
		for _, m := range archive.Files {
			f.Add(m.Data, []byte(plainConfig), "current/config.yaml", "../v2")
		}
	}
	f.Add([]byte(rolloutManifest("a", "link")), []byte("exporters: {}"), "config.yaml", "config.yaml")
	f.Fuzz(func(t *testing.T, manifest, config []byte, path, link string) {
		snap := fleet.Snapshot{Root: ".", Files: []fleet.Source{
			{Path: "base.yaml", Body: []byte(plainConfig)},
			{Path: path, Body: config},
			{Path: "config.yaml", Body: config},
			{Path: "current", Kind: fleet.Symlink, Body: []byte(link)},
			{Path: "link", Kind: fleet.Symlink, Body: []byte(link)},
			{Path: "manifest.yaml", Body: manifest},
			{Path: "other.yaml", Body: []byte(rolloutManifest("other", "base.yaml", path, "link"))},
			{Path: "sub", Kind: fleet.Submodule},
		}}
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
