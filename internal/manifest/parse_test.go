package manifest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

const plainConfig = "receivers: {otlp: }\nexporters: {debug: }\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n"

func rolloutManifest(name string, configs ...string) string {
	return fmt.Sprintf("apiVersion: %s\nkind: Rollout\nmetadata: {name: %s}\nspec:\n  selector: {}\n  waves: [{name: all}]\n  config: [%s]\n",
		APIVersion, name, strings.Join(configs, ", "))
}

func snapshot(files map[string]string) fleet.Snapshot {
	snap := fleet.Snapshot{Root: "."}
	for path, body := range files {
		snap.Files = append(snap.Files, fleet.Source{Path: path, Body: []byte(body)})
	}
	slices.SortFunc(snap.Files, func(a, b fleet.Source) int { return strings.Compare(a.Path, b.Path) })
	return snap
}

func mustParse(t testing.TB, snap fleet.Snapshot) *Set {
	t.Helper()
	set, problems := Parse(snap, Options{})
	if set == nil {
		t.Fatalf("rejected: %v", problems)
	}
	return set
}

// TestIdentityIsContent: the config hash depends on what is in the files and their
// order alone: not on their names, the revision, the Rollout or what lies beside.
func TestIdentityIsContent(t *testing.T) {
	bodies := []string{
		plainConfig,
		plainConfig + "# and a comment\n",
		"processors: {batch: }\n",
		"exporters: {debug: {verbosity: detailed}}\n",
	}
	name := rapid.StringMatching(`[a-z]{1,8}/[a-z0-9]{1,8}\.(yaml|conf)`)
	rapid.Check(t, func(t *rapid.T) {
		picks := []int{rapid.IntRange(0, 1).Draw(t, "base")}
		picks = append(picks, rapid.SliceOfN(rapid.IntRange(2, 3), 0, 2).Draw(t, "overlays")...)
		render := func(revision string) fleet.Config {
			names := rapid.SliceOfNDistinct(name, len(picks), len(picks), func(s string) string { return s }).Draw(t, "names")
			files := map[string]string{"zz/extra.txt": revision}
			for i, pick := range picks {
				files[names[i]] = bodies[pick]
			}
			rollout := rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "rollout")
			files["m/"+rollout+"-manifest.yaml"] = rolloutManifest(rollout, names...)
			snap := snapshot(files)
			snap.Revision.ID = revision
			set, problems := Parse(snap, Options{})
			if set == nil {
				t.Fatalf("rejected: %v", problems)
			}
			return set.Rollouts[0].Config
		}
		one, two := render("1"), render("2")
		if one.Hash != two.Hash {
			t.Fatalf("one content, two hashes")
		}
		if len(picks) == 1 && string(one.Files[0].Body) != bodies[picks[0]] {
			t.Fatalf("a single file must be sent byte for byte")
		}
	})
	a := mustParse(t, snapshot(map[string]string{"c.yaml": bodies[0], "m.yaml": rolloutManifest("a", "c.yaml")}))
	b := mustParse(t, snapshot(map[string]string{"c.yaml": bodies[1], "m.yaml": rolloutManifest("a", "c.yaml")}))
	if a.Rollouts[0].Config.Hash == b.Rollouts[0].Config.Hash {
		t.Error("other bytes must have another hash")
	}
}

// TestSelectorMatches is a table of selectors against labels.
func TestSelectorMatches(t *testing.T) {
	labels := fleet.Labels{"env": "prod", "host.name": "web-12", "empty": ""}
	for selector, want := range map[string]bool{
		`{}`:                                  true,
		`{matchLabels: {env: prod}}`:          true,
		`{matchLabels: {env: prod, none: x}}`: false,
		`{matchLabels: {empty: ""}}`:          true,
		`{matchLabels: {none: ""}}`:           false,
		`{matchExpressions: [{key: env, operator: In, values: [test, prod]}]}`:               true,
		`{matchExpressions: [{key: none, operator: In, values: [""]}]}`:                      false,
		`{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}`:                  false,
		`{matchExpressions: [{key: none, operator: NotIn, values: [prod]}]}`:                 true,
		`{matchExpressions: [{key: empty, operator: Exists}]}`:                               true,
		`{matchExpressions: [{key: none, operator: Exists}]}`:                                false,
		`{matchExpressions: [{key: empty, operator: DoesNotExist}]}`:                         false,
		`{matchExpressions: [{key: none, operator: DoesNotExist}]}`:                          true,
		`{matchExpressions: [{key: host.name, operator: Matches, values: ["web-\\d+"]}]}`:    true,
		`{matchExpressions: [{key: host.name, operator: Matches, values: ["web", "\\d+"]}]}`: false,
		`{matchExpressions: [{key: host.name, operator: Matches, values: ["x|web-1.*"]}]}`:   true,
		`{matchExpressions: [{key: none, operator: Matches, values: [".*"]}]}`:               false,
		`{matchLabels: {env: prod}, matchExpressions: [{key: env, operator: DoesNotExist}]}`: false,
	} {
		manifest := strings.Replace(rolloutManifest("a", "c.yaml"), "selector: {}", "selector: "+selector, 1)
		set := mustParse(t, snapshot(map[string]string{"c.yaml": plainConfig, "m.yaml": manifest}))
		if s := set.Rollouts[0].Selector; s.Matches(labels) != want {
			t.Errorf("%s (%s): got %t", selector, s, !want)
		}
	}
}

// TestOrderOfFilesDoesNotMatter: a snapshot is sorted, but nothing depends on it
// but which of two duplicates is called the second.
func TestOrderOfFilesDoesNotMatter(t *testing.T) {
	snap := snapshot(map[string]string{
		"a.yaml": rolloutManifest("a", "c.yaml"), "b.yaml": rolloutManifest("b", "c.yaml", "d.yaml"),
		"c.yaml": plainConfig, "d.yaml": "processors: {batch: }\n", "z.yaml": "apiVersion: " + APIVersion + "\n",
	})
	want := outcome(Parse(snap, Options{}))
	for range 20 {
		rand.Shuffle(len(snap.Files), func(i, j int) { snap.Files[i], snap.Files[j] = snap.Files[j], snap.Files[i] })
		if got := outcome(Parse(snap, Options{})); got != want {
			t.Fatalf("got\n%swant\n%s", got, want)
		}
	}
}

func TestParseSettings(t *testing.T) {
	settings, problems := ParseSettings("s.yaml", []byte("git: https://x/y.git\npoll: 1m\nallow-empty: true\nnotify: [a, b]\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := []Setting{{"git", "https://x/y.git", 1, 1}, {"poll", "1m", 2, 1}, {"allow-empty", "true", 3, 1}, {"notify", "a,b", 4, 1}}
	if !slices.Equal(settings, want) {
		t.Errorf("got %v", settings)
	}
	for body, want := range map[string]string{
		"- a":                "s.yaml:1:1: type: a settings file must be a map, not a list",
		"a: {b: c}":          "s.yaml:1:4: type: a must be text, a number or true or false, not a map",
		"a:":                 "s.yaml:1:3: type: a must be text, a number or true or false, not null",
		"a: 1\na: 2":         `s.yaml:2:1: duplicate: the key "a" is already in line 1`,
		"1: a":               "s.yaml:1:1: type: the name of a setting must be text",
		"a: 1\n---\nb: 1":    "s.yaml:3:1: yaml: a settings file is one YAML document",
		"a: [1\n":            "s.yaml:2:1: yaml: did not find expected ',' or ']'",
		"a: [b, {c: d}]\n":   "s.yaml:1:8: type: a must be text, a number or true or false, not a map",
		"a: &x [*x]\nb: \t1": "s.yaml:1:8: yaml: the alias *x is inside of what it stands for",
	} {
		if got, problems := ParseSettings("s.yaml", []byte(body)); got != nil || len(problems) == 0 || problems[0].String() != want {
			t.Errorf("%q: got %v, %v, want %s", body, got, problems, want)
		}
	}
	if got, problems := ParseSettings("s.yaml", []byte("# nothing\n")); got != nil || problems != nil {
		t.Errorf("an empty file: %v, %v", got, problems)
	}
}

// TestLimits: each bound on a commit, at it and one above.
func TestLimits(t *testing.T) {
	files := map[string]string{"c.yaml": plainConfig, "d.yaml": "processors: {batch: }\n"}
	files["a.yaml"] = strings.Replace(rolloutManifest("a", "c.yaml", "d.yaml"), "{name: all}", "{name: one, size: 1}, {name: two}", 1)
	files["b.yaml"] = rolloutManifest("b", "c.yaml")
	snap := snapshot(files)
	for _, c := range []struct {
		limits Limits
		want   string
	}{
		{Limits{Rollouts: 2, Waves: 2, Configs: 2}, ""},
		{Limits{Rollouts: 1}, "limit: 2 Rollouts, more than the limit of 1"},
		{Limits{Waves: 1}, "a.yaml:6:10: limit: 2 waves, more than the limit of 1"},
		{Limits{Configs: 1}, "a.yaml:7:11: limit: config names 2 files, more than the limit of 1"},
	} {
		set, problems := Parse(snap, Options{Limits: c.limits})
		got := ""
		for _, p := range problems {
			got += p.String()
		}
		if got != c.want || (set == nil) != (c.want != "") {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// large is a repository of n YAML files; most are none of our business.
func large(n int) fleet.Snapshot {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("apps/%03d/%05d.yaml", i%100, i)] = strings.Repeat("apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n---\n", 32)
	}
	for i := range 20 {
		files[fmt.Sprintf("fleet/r%d.yaml", i)] = rolloutManifest(fmt.Sprintf("r%d", i), "fleet/base.yaml", fmt.Sprintf("fleet/over%d.yaml", i))
		files[fmt.Sprintf("fleet/over%d.yaml", i)] = "processors: {batch: }\n"
	}
	files["fleet/base.yaml"] = plainConfig
	return snapshot(files)
}

// BenchmarkParse10000 is a commit to a repository of 10,000 YAML files with 20
// Rollouts.
func BenchmarkParse10000(b *testing.B) {
	snap := large(10_000)
	b.ReportAllocs()
	for b.Loop() {
		mustParse(b, snap)
	}
}

// BenchmarkParse1000Rollouts is the other extreme: every file is a Rollout of
// ours.
func BenchmarkParse1000Rollouts(b *testing.B) {
	files := map[string]string{"c.yaml": plainConfig}
	for i := range 1000 {
		files[fmt.Sprintf("r/%d.yaml", i)] = rolloutManifest(fmt.Sprintf("r%d", i), "c.yaml")
	}
	snap := snapshot(files)
	b.ReportAllocs()
	for b.Loop() {
		mustParse(b, snap)
	}
}
