package gitsource

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// importFiles makes a commit of n small files in n/5 directories, quickly.
func importFiles(b *testing.B, r *repo, n int) {
	b.Helper()
	var in bytes.Buffer
	const who = "Ada <ada@example.com> 1700000000 +0000"
	fmt.Fprintf(&in, "commit refs/heads/main\ncommitter %s\ndata 4\nmany\n", who)
	for i := range n {
		body := fmt.Sprintf("receivers: {otlp: {}}\n# file %d\n%s\n", i, noise(1000 + i)[i:])
		fmt.Fprintf(&in, "M 100644 inline team-%02d/site-%03d/agent-%d.yaml\ndata %d\n%s\n", i/5%50, i/5, i, len(body), body)
	}
	cmd := exec.Command("git", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin, cmd.Stderr = r.dir, &in, os.Stderr
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	r.git("repack", "-q", "-a", "-d")
}

// commitOne makes a commit that changes one file, without a worktree.
func commitOne(b *testing.B, r *repo, i int) {
	b.Helper()
	body := fmt.Sprintf("changed: %d\n", i)
	in := fmt.Sprintf("commit refs/heads/main\ncommitter Ada <ada@example.com> %d +0000\ndata 3\none\nfrom refs/heads/main^0\n"+
		"M 100644 inline team-00/site-000/agent-0.yaml\ndata %d\n%s\n", 1700000001+i, len(body), body)
	cmd := exec.Command("git", "fast-import", "--quiet", "--force")
	cmd.Dir, cmd.Stdin, cmd.Stderr = r.dir, strings.NewReader(in), os.Stderr
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
}

func quiet(b *testing.B, url string) *follower {
	b.Helper()
	f := follow(b, Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if u := f.look(); u.Snapshot == nil {
		b.Fatalf("no snapshot: %+v", u.Status)
	}
	return f
}

func lsRemoteOnce(b *testing.B, url string) time.Duration {
	b.Helper()
	start := time.Now()
	if out, err := exec.Command("git", "ls-remote", url, "refs/heads/main").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return time.Since(start)
}

// BenchmarkPollNoChange is one look that finds nothing new, next to `git
// ls-remote` of the same repository, in turns. The CPU of the server is in both.
func BenchmarkPollNoChange(b *testing.B) {
	for _, refs := range []int{1, 1000} {
		r := newRepo(b)
		importFiles(b, r, 200)
		var packed strings.Builder
		tip := r.git("rev-parse", "main")
		for i := range refs - 1 {
			fmt.Fprintf(&packed, "%s refs/heads/other/%d\n", tip, i)
		}
		if err := os.WriteFile(filepath.Join(r.dir, ".git", "packed-refs"), []byte(packed.String()), 0o600); err != nil {
			b.Fatal(err)
		}
		for kind, url := range map[string]string{"http": serve(b, r).url(r), "local": r.dir} {
			b.Run(fmt.Sprintf("%s/refs=%d", kind, refs), func(b *testing.B) {
				f := quiet(b, url)
				f.wantNothing()
				var ours, theirs time.Duration
				b.ReportAllocs()
				for b.Loop() {
					start := time.Now()
					f.s.look(context.Background())
					ours += time.Since(start)
					b.StopTimer()
					theirs += lsRemoteOnce(b, url)
					b.StartTimer()
				}
				b.ReportMetric(float64(theirs)/float64(b.N), "ls-remote-ns/op")
				b.ReportMetric(float64(ours)/float64(theirs), "x-of-ls-remote")
			})
		}
	}
}

// BenchmarkOneFileCommit is one look that finds a commit of one file in a
// repository of 10,000, from the question for the tip to the snapshot.
func BenchmarkOneFileCommit(b *testing.B) {
	r := newRepo(b)
	importFiles(b, r, 10_000)
	s := serve(b, r)
	sshd, key := serveSSH(b)
	for kind, cfg := range map[string]Config{
		"http":  {URL: s.url(r)},
		"local": {URL: r.dir},
		"ssh": {
			URL:        "ssh://" + sshd.addr + r.dir,
			SSHKeyFile: writeKey(b, key, ""), KnownHostsFile: sshd.knownHosts(b, sshd.host.PublicKey()),
		},
	} {
		b.Run(kind, func(b *testing.B) {
			cfg.Logger = slog.New(slog.DiscardHandler)
			f := follow(b, cfg)
			if u := f.look(); u.Snapshot == nil || len(u.Snapshot.Files) != 10_000 {
				b.Fatalf("no snapshot: %+v", u.Status)
			}
			b.ReportAllocs()
			sent, i := s.sent.Load(), 0
			for b.Loop() {
				b.StopTimer()
				i++
				commitOne(b, r, i+b.N)
				b.StartTimer()
				f.s.look(context.Background())
				if f.update.Snapshot == nil {
					b.Fatalf("no snapshot: %+v", f.update.Status)
				}
			}
			if kind == "http" {
				b.ReportMetric(float64(s.sent.Load()-sent)/float64(b.N), "received-bytes/op")
			}
		})
	}
}

// BenchmarkFirstFetch is the first look at a repository of 10,000 files.
func BenchmarkFirstFetch(b *testing.B) {
	r := newRepo(b)
	importFiles(b, r, 10_000)
	url := serve(b, r).url(r)
	for b.Loop() {
		quiet(b, url)
	}
}
