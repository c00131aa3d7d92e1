package examples_test

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"testing"

	"github.com/bellwether-opamp/bellwether/examples"
	"github.com/bellwether-opamp/bellwether/gitsource"
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
)

// Every example is a fleet repository that would be accepted as it is, with a
// README, in which no agent that it is about would be left out.
func TestExamples(t *testing.T) {
	examples := []struct {
		dir    string
		labels fleet.Labels // of an agent it is about
		waves  []string
	}{
		{"quickstart", fleet.Labels{"service.name": "otelcol-edge"}, []string{"canary", "half"}},
		{"regions", fleet.Labels{"service.name": "otelcol-gateway"}, []string{"canary", "asia", "america", "europe"}},
	}
	var tested []string
	for _, e := range examples {
		tested = append(tested, e.dir)
		t.Run(e.dir, func(t *testing.T) {
			snapshot, err := gitsource.ReadDir(t.Context(), e.dir, ".")
			if err != nil {
				t.Fatal(err)
			}
			set, problems := manifest.Parse(snapshot, manifest.Options{})
			for _, p := range problems {
				t.Error(p)
			}
			if set == nil {
				t.Fatal("rejected")
			}
			if len(set.Rollouts) != 1 || !set.Rollouts[0].Selector.Matches(e.labels) {
				t.Fatalf("%d rollouts; want one, which selects %v", len(set.Rollouts), e.labels)
			}
			var waves []string
			for _, w := range set.Rollouts[0].Spec.Waves {
				waves = append(waves, w.Name)
			}
			if !slices.Equal(waves, e.waves) {
				t.Errorf("waves %q, want %q", waves, e.waves)
			}
			if _, err := os.Stat(path.Join(e.dir, "README.md")); err != nil {
				t.Error(err)
			}
		})
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && !slices.Contains(tested, entry.Name()) {
			t.Errorf("nothing tests %s", entry.Name())
		}
	}
}

// An agent of each region is in its region's wave, and in no other.
func TestRegions(t *testing.T) {
	snapshot, err := gitsource.ReadDir(t.Context(), "regions", ".")
	if err != nil {
		t.Fatal(err)
	}
	set, problems := manifest.Parse(snapshot, manifest.Options{})
	if set == nil {
		t.Fatal(problems)
	}
	for region, want := range map[string]string{
		"eu-central-1": "europe", "us-east-2": "america", "ca-west-1": "america", "ap-south-1": "asia",
	} {
		var got []string
		for _, w := range set.Rollouts[0].Spec.Waves {
			if w.Selector != nil && w.Selector.Matches(fleet.Labels{"cloud.region": region}) {
				got = append(got, w.Name)
			}
		}
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%s is in %q, want %q alone", region, got, want)
		}
	}
}

// The demo carries the quickstart as it is in the repository.
func TestEmbedded(t *testing.T) {
	embedded, err := fs.Sub(examples.Quickstart, "quickstart")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = fs.WalkDir(embedded, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		got, err := fs.ReadFile(embedded, p)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path.Join("quickstart", p))
		if err != nil {
			return err
		}
		if string(got) != string(want) {
			t.Errorf("%s differs", p)
		}
		return nil
	})
	if err != nil || n < 4 {
		t.Errorf("%d files, error %v", n, err)
	}
}
