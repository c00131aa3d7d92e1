package gitsource

import (
	"slices"
	"strings"
	"testing"
)

// Every history that a branch can have, over every transport, ends in the whole
// tree of the tip.
func TestHistories(t *testing.T) {
	transports := map[string]func(t *testing.T, r *repo) Config{
		"http": func(t *testing.T, r *repo) Config { return Config{URL: serve(t, r).url(r)} },
		"ssh": func(t *testing.T, r *repo) Config {
			s, key := serveSSH(t)
			return Config{
				URL:        "ssh://me@" + s.addr + r.dir,
				SSHKeyFile: writeKey(t, key, ""), KnownHostsFile: s.knownHosts(t, s.host.PublicKey()),
			}
		},
		"local worktree": func(_ *testing.T, r *repo) Config { return Config{URL: r.dir} },
		"local file url": func(_ *testing.T, r *repo) Config { return Config{URL: "file://" + r.dir + "/.git"} },
	}
	for name, config := range transports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t)
			first := r.commit("first", "a.yaml", "a: 1\n", "deep/er/b.yaml", "b: 1\n", "c.yaml", strings.Repeat("c: 1\n", 500))
			f := follow(t, config(t, r))
			f.wantRevision(first)
			f.wantNothing()
			for _, step := range histories(r) {
				step.move()
				s := f.wantRevision(r.git("rev-parse", "main"))
				want := strings.Split(r.git("ls-tree", "-r", "--name-only", "main"), "\n")
				if !slices.Equal(paths(s), want) {
					t.Fatalf("%s: files %v, want %v", step.name, paths(s), want)
				}
				for _, p := range want {
					if got := strings.TrimSpace(bodyOf(t, s, p)); got != r.git("show", "main:"+p) {
						t.Fatalf("%s: %s is %q", step.name, p, got)
					}
				}
				f.wantNothing()
			}
		})
	}
}

type step struct {
	name string
	move func()
}

// histories are what a branch can go through, in order.
func histories(r *repo) []step {
	return []step{
		{"advance", func() { r.commit("advance", "a.yaml", "a: 2\n") }},
		{"several commits at once", func() {
			for range 5 {
				r.commit("one of five", "c.yaml", strings.Repeat("c: 2\n", 400)+r.git("rev-parse", "HEAD"))
			}
		}},
		{"merge", func() {
			r.git("checkout", "-q", "-b", "side", "HEAD~2")
			r.commit("side", "side.yaml", "s: 1\n")
			r.git("checkout", "-q", "main")
			r.git("merge", "-q", "--no-ff", "-m", "merge", "side")
		}},
		{"rename and delete", func() {
			r.git("mv", "deep/er/b.yaml", "b.yaml")
			r.git("rm", "-q", "side.yaml")
			r.commit("rename")
		}},
		{"force to an older commit", func() { r.git("reset", "-q", "--hard", "HEAD~3") }},
		{"amend", func() { r.git("commit", "-q", "--amend", "--allow-empty", "-m", "amended") }},
		{"orphan", func() {
			r.git("checkout", "-q", "--orphan", "fresh")
			r.commit("orphan", "new.yaml", "n: 1\n")
			r.git("branch", "-q", "-M", "fresh", "main")
		}},
		{"packed", func() { r.commit("packed", "p.yaml", "p: 1\n"); r.git("gc", "-q"); r.git("pack-refs", "--all") }},
	}
}
