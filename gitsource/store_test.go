package gitsource

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// What no commit reaches any more is dropped, and later packs still build on the
// rest, files outside of what we read included.
func TestStoreIsPruned(t *testing.T) {
	r := newRepo(t)
	other := strings.Repeat("some line of text\n", 300)
	good := r.commit("good", "configs/a.yaml", "a: 1\n", "other/b.txt", other)
	s := serve(t, r)
	f := follow(t, Config{URL: s.url(r), Path: "configs"})
	f.wantRevision(good)
	remote := f.s.remote.(*gitRemote)
	first := len(remote.store.Objects)
	for i := range 4 {
		f.wantRevision(r.commit("next", "configs/a.yaml", fmt.Sprintf("a: %d\n", i+2)))
	}
	if n := len(remote.store.Objects); n <= first {
		t.Fatalf("%d objects after four commits, %d after the first", n, first)
	}
	remote.prune()
	if n := len(remote.store.Objects); n != first || remote.first != first {
		t.Fatalf("%d objects after pruning, want %d", n, first)
	}
	sent := s.sent.Load()
	f.wantRevision(r.commit("delta", "configs/a.yaml", "a: 9\n", "other/b.txt", other+"one more\n"))
	if n := s.sent.Load() - sent; n > 2000 {
		t.Errorf("%d bytes for a small change: the store was not used", n)
	}
}

// A store that lacks what it should have costs one whole fetch, no more.
func TestBrokenStoreIsFetchedAgain(t *testing.T) {
	r := newRepo(t)
	text := strings.Repeat("some line of text\n", 300)
	good := r.commit("good", "a.yaml", "a: 1\n", "deep/b.txt", text, "deep/c.yaml", "c: 1\n")
	f := follow(t, Config{URL: serve(t, r).url(r)})
	f.wantRevision(good)
	for _, name := range []string{"main:deep/b.txt", "main:deep", "main:deep/c.yaml"} {
		remote := f.s.remote.(*gitRemote)
		hash := plumbing.NewHash(r.git("rev-parse", name))
		delete(remote.store.Objects, hash)
		delete(remote.known.bodies, hash)
		delete(remote.known.trees, hash)
		text += "one more line\n"
		f.wantRevision(r.commit("next", "deep/b.txt", text, "a.yaml", text[:100]))
	}
}

// Bodies that did not change are shared between snapshots.
func TestBodiesAreShared(t *testing.T) {
	for _, kind := range []string{"http", "local"} {
		r := newRepo(t)
		r.commit("good", "a.yaml", "a: 1\n", "b.yaml", "b: 1\n")
		url := r.dir
		if kind == "http" {
			url = serve(t, r).url(r)
		}
		f := follow(t, Config{URL: url})
		f.look()
		one := f.last
		f.wantRevision(r.commit("next", "b.yaml", "b: 2\n"))
		if &one.Files[0].Body[0] != &f.last.Files[0].Body[0] || &one.Files[1].Body[0] == &f.last.Files[1].Body[0] {
			t.Errorf("%s: bodies are not shared, or shared too much", kind)
		}
		if string(one.Files[1].Body) != "b: 1\n" {
			t.Errorf("%s: an old snapshot has changed", kind)
		}
	}
}
