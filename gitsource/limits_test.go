package gitsource

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Everything a server can send is limited; a tip over a limit is refused whole,
// with the limit named, and not fetched again.

func TestLimitRevision(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		files  []string
		words  string
	}{
		{"files", Limits{Files: 4}, []string{"1.yaml", "", "2.yaml", "", "3.yaml", ""}, "more than 4 files"},
		{"directories", Limits{Files: 4}, []string{"1/1/1/1/1.yaml", ""}, "more than 4 directories"},
		{"depth", Limits{Depth: 3}, []string{"1/2/3/4/f.yaml", ""}, "nested more than 3"},
		{"path", Limits{Path: 30}, []string{"a-long-name-of-a-directory/and-a-file.yaml", ""}, "more than 30 bytes"},
		{"one file, left out by the server", Limits{Object: 1000}, []string{"big.yaml", strings.Repeat("x", 1001)}, "big.yaml was left out"},
		{"all files", Limits{Inflated: 2000}, []string{"1.yaml", strings.Repeat("x", 900), "2.yaml", strings.Repeat("y", 900)}, "2000 bytes"},
		{"pack bytes", Limits{Pack: 3000}, []string{"1.yaml", noise(9000)}, "the pack is larger than the limit of 3000"},
		{"objects", Limits{Objects: 6}, []string{"1", "1", "2", "2", "3", "3", "4", "4", "5", "5", "6", "6"}, "objects: the limit is 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, s, f := followed(t, func(cfg *Config) { cfg.Limits = c.limits })
			r.commit("too much", c.files...)
			f.wantReason(LimitExceeded, c.words)
			posts := s.posts.Load()
			f.wantReason(LimitExceeded, c.words)
			if n := s.posts.Load() - posts; n != 1 {
				t.Fatalf("a refused tip was fetched again: %d questions, want 1", n)
			}
			r.git("revert", "--no-edit", "HEAD")
			f.wantRevision(r.git("rev-parse", "main"))
		})
	}
}

// noise is text that does not compress much, the same in every run.
func noise(n int) string {
	raw := make([]byte, n/2+1)
	_, _ = rand.NewChaCha8([32]byte{}).Read(raw)
	return hex.EncodeToString(raw)[:n]
}

// A server that cannot leave out large files is refused before they are read.
func TestLimitFileFromServerWithoutFilter(t *testing.T) {
	r, _, f := followed(t, func(c *Config) { c.Limits.Object = 1000 })
	r.git("config", "uploadpack.allowFilter", "false")
	r.commit("big", "big.yaml", strings.Repeat("x", 1001))
	f.wantReason(LimitExceeded, "1001 bytes: the limit is 1000")
}

// A large file outside of what we read does not matter if the server can leave
// it out.
func TestLimitLargeFileOutOfScope(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "configs/a.yaml", "a: 1\n", "video.bin", noise(5000))
	f := follow(t, Config{URL: serve(t, r).url(r), Path: "configs", Limits: Limits{Object: 1000}})
	f.wantRevision(good)
	f.wantRevision(r.commit("next", "configs/a.yaml", "a: 2\n", "video.bin", noise(6000)))
	f.wantRevision(r.commit("small", "configs/a.yaml", "a: 3\n", "video.bin", noise(900)))
}

func TestLimitLocalFile(t *testing.T) {
	r := newRepo(t)
	r.commit("big", "big.yaml", strings.Repeat("x", 1001))
	f := follow(t, Config{URL: r.dir, Limits: Limits{Object: 1000}})
	f.wantReason(LimitExceeded, "big.yaml has 1001 bytes")
	dir := t.TempDir()
	writeFiles(t, dir, "big.yaml", strings.Repeat("x", 1001))
	f = follow(t, Config{URL: dir, Limits: Limits{Object: 1000}})
	f.wantReason(LimitExceeded, "big.yaml has more than 1000 bytes")
}

// A list of references that never ends.
func TestLimitEndlessAdvertisement(t *testing.T) {
	_, s, f := followed(t, func(c *Config) { c.Limits.Advertisement = 100_000 })
	endless := func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPost {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		w.Header().Set("Content-Type", advertiseType)
		fmt.Fprint(w, "001e# service=git-upload-pack\n0000")
		for i := 0; ; i++ {
			line := fmt.Sprintf("%040x refs/heads/x%d", i+1, i)
			if i == 0 {
				line += "\x00shallow thin-pack"
			}
			if _, err := fmt.Fprintf(w, "%04x%s\n", len(line)+5, line); err != nil {
				return true
			}
		}
	}
	s.set(endless)
	f.wantReason(Unreachable)
	f.wantReason(LimitExceeded, "the list of references is larger than the limit of 100000")
	s.set(nil)
	f.wantNothing()
}

// pack writes a pack by hand: objects are headers and contents as they are to
// stand in it.
func pack(objects ...[]byte) []byte {
	b := []byte("PACK\x00\x00\x00\x02")
	b = binary.BigEndian.AppendUint32(b, uint32(len(objects)))
	for _, o := range objects {
		b = append(b, o...)
	}
	sum := sha1.Sum(b)
	return append(b, sum[:]...)
}

func packed(kind plumbing.ObjectType, declared int, base []byte, content []byte) []byte {
	first, size := byte(kind)<<4|byte(declared&15), declared>>4
	var b []byte
	for ; size > 0; size >>= 7 {
		b = append(b, first|0x80)
		first = byte(size & 0x7f)
	}
	b = append(append(b, first), base...)
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, _ = w.Write(content)
	w.Close()
	return append(b, z.Bytes()...)
}

// Packs that inflate to more than they seem, refused before anything is kept.
func TestLimitBombs(t *testing.T) {
	l := Limits{Object: 1 << 20, Inflated: 4 << 20}
	if err := l.setDefaults(); err != nil {
		t.Fatal(err)
	}
	base := []byte("base")
	baseSum := sha1.Sum([]byte("blob 4\x00base"))
	delta := func(target int) []byte {
		d := binary.AppendUvarint([]byte{byte(len(base))}, uint64(target))
		for range 10 {
			d = append(d, 0x80|0x10, 4) // copy four bytes of the base
		}
		return d
	}
	zeros := make([]byte, 1<<20)
	many := make([][]byte, 5)
	for i := range many {
		many[i] = packed(plumbing.BlobObject, len(zeros), nil, zeros)
	}
	small := packed(plumbing.BlobObject, 4, nil, base)
	bigDelta := delta(1<<20 + 1)
	huge := pack(small)
	binary.BigEndian.PutUint32(huge[8:], 0xffffffff)
	for _, c := range []struct {
		name string
		pack []byte
		want Reason
	}{
		{"good", pack(small), OK},
		{"one object of zeros", pack(packed(plumbing.BlobObject, len(zeros)+1, nil, append(zeros, 0))), LimitExceeded},
		{"a size that is a lie", pack(packed(plumbing.BlobObject, 10, nil, zeros)), Unreachable},
		{"many objects of zeros", pack(many...), LimitExceeded},
		{"a delta that grows", pack(small, packed(plumbing.REFDeltaObject, len(bigDelta), baseSum[:], bigDelta)), LimitExceeded},
		{"a delta without a size", pack(small, packed(plumbing.REFDeltaObject, 1, baseSum[:], []byte{0x80})), Corrupt},
		{"more objects than there are", huge, LimitExceeded},
		{"a delta of something else", pack(packed(plumbing.REFDeltaObject, len(delta(40)), make([]byte, 20), delta(40))), Corrupt},
		{"no pack", []byte("PICK"), Unreachable},
		{"nothing", nil, Unreachable},
		{"a wrong sum", append(pack(small)[:30], make([]byte, 20)...), Unreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := memory.NewStorage()
			err := storePack(store, bytes.NewReader(c.pack), l)
			if c.want == OK {
				if err != nil || len(store.Objects) != 1 {
					t.Fatalf("%v, %d objects", err, len(store.Objects))
				}
				return
			}
			if err == nil || classify(err).reason != c.want || len(store.Objects) != 0 {
				t.Fatalf("got %v (%d objects), want %s", err, len(store.Objects), c.want)
			}
		})
	}
}

// A large pack goes through a file.
func TestLargePack(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.txt", noise(9<<20-9), "b.txt", "b")
	f := follow(t, Config{URL: serve(t, r).url(r), Limits: Limits{Object: 9 << 20}})
	if s := f.wantRevision(good); len(bodyOf(t, s, "a.txt")) != 9<<20-9 {
		t.Fatal("the file is not whole")
	}
}

// mktree writes a tree object that git itself would not make.
func (r *repo) mktree(entries ...string) string {
	r.t.Helper()
	var raw []byte
	for i := 0; i < len(entries); i += 2 {
		hash, err := hex.DecodeString(entries[i+1])
		if err != nil {
			r.t.Fatal(err)
		}
		raw = append(append(append(raw, entries[i]...), 0), hash...)
	}
	cmd := exec.Command("git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally")
	cmd.Dir, cmd.Stdin = r.dir, bytes.NewReader(raw)
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func (r *repo) commitTree(tree string) {
	r.t.Helper()
	r.git("update-ref", "refs/heads/main", r.git("commit-tree", "-m", "crafted", tree))
}

// Eleven objects that unfold into ten thousand million files.
func TestLimitTreeBomb(t *testing.T) {
	r, _, f := followed(t, nil)
	blob := r.git("rev-parse", "main:rollout.yaml")
	for _, leaf := range []string{blob, ""} {
		tree := r.mktree()
		if leaf != "" {
			tree = r.mktree("100644 f", leaf)
		}
		for range 10 {
			var entries []string
			for i := range 10 {
				entries = append(entries, fmt.Sprintf("40000 %d", i), tree)
			}
			tree = r.mktree(entries...)
		}
		r.commitTree(tree)
		f.wantReason(LimitExceeded, "more than 20000")
	}
}

func TestFailureNastyNames(t *testing.T) {
	r, _, f := followed(t, nil)
	blob := r.git("rev-parse", "main:rollout.yaml")
	for _, name := range []string{"..", ".", ".git", ".GIT", "a/b", "a\nb", "a\x7fb", "\xff\xfe", "../x"} {
		r.commitTree(r.mktree("100644 "+name, blob))
		f.wantReason(InvalidTree)
	}
	r.commitTree(r.mktree("100644 twice", blob, "100755 twice", blob))
	f.wantReason(InvalidTree, "two entries", "twice")
	r.commitTree(r.mktree("170000 odd", blob))
	f.wantReason(InvalidTree, "mode")
	r.commitTree(r.mktree("100644 fine", blob, "100666 odd but harmless", blob, "120000 link", blob, "160000 module", blob))
	s := f.wantRevision(r.git("rev-parse", "main"))
	kinds := map[string]fleet.Kind{}
	for _, file := range s.Files {
		kinds[file.Path] = file.Kind
		if (file.Kind == fleet.Submodule) != (len(file.Body) == 0) {
			t.Errorf("%s has %d bytes", file.Path, len(file.Body))
		}
	}
	if len(kinds) != 4 || kinds["link"] != fleet.Symlink || kinds["module"] != fleet.Submodule || kinds["fine"] != fleet.Regular {
		t.Fatalf("kinds: %v", kinds)
	}
}
