package gitsource

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

func someSnapshot() fleet.Snapshot {
	return fleet.Snapshot{
		Revision: fleet.Revision{
			ID: "0123", Branch: "main", Author: "Ada", Subject: "words",
			Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)),
		},
		Root: "configs",
		Files: []fleet.Source{
			{Path: "configs/a.yaml", Body: []byte("a: 1\n")},
			{Path: "configs/link", Kind: fleet.Symlink, Body: []byte("a.yaml")},
			{Path: "configs/module", Kind: fleet.Submodule, Body: []byte{}},
		},
	}
}

func TestCache(t *testing.T) {
	c := Cache{Dir: filepath.Join(t.TempDir(), "not", "yet", "there")}
	if _, ok, err := c.Load(); ok || err != nil {
		t.Fatalf("an empty cache: %v %v", ok, err)
	}
	for range 2 {
		want := someSnapshot()
		if err := c.Save(want); err != nil {
			t.Fatal(err)
		}
		got, ok, err := c.Load()
		if err != nil || !ok {
			t.Fatalf("Load: %v %v", ok, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("left behind: %v %v", left, err)
	}
	info, err := left[0].Info()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

// A damaged file is an error, never another snapshot.
func TestCacheDamaged(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	if err := c.Save(someSnapshot()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(c.Dir, cacheName)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, bad := range [][]byte{good[:i], append(append(append([]byte{}, good[:i]...), good[i]^1), good[i+1:]...)} {
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := c.Load(); ok || !errors.Is(err, ErrCache) {
				t.Fatalf("damage at %d: %v %v", i, ok, err)
			}
		}
	}
}

func TestCacheCannotBeWritten(t *testing.T) {
	file := writeTemp(t, "in the way")
	if err := (Cache{Dir: file}).Save(someSnapshot()); err == nil {
		t.Fatal("no error")
	}
	if _, ok, err := (Cache{Dir: file}).Load(); ok || err == nil {
		t.Fatalf("Load: %v %v", ok, err)
	}
}

func FuzzCache(f *testing.F) {
	f.Add(encodeSnapshot(someSnapshot()))
	f.Add(encodeSnapshot(fleet.Snapshot{}))
	f.Add([]byte(cacheMagic))
	f.Fuzz(func(t *testing.T, content []byte) {
		if s, err := decodeSnapshot(content); err == nil {
			if again, err := decodeSnapshot(encodeSnapshot(s)); err != nil || !cmp.Equal(s, again) {
				t.Fatalf("not the same again: %v", err)
			}
		}
		// behind the checksum
		if s, err := decodeFields(content); err == nil {
			if _, err := decodeSnapshot(encodeSnapshot(s)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
