package gitsource

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// Mistakes of the configuration end in one clear line that shows no secret.
func TestNewRefuses(t *testing.T) {
	_, private := newKey(t)
	key, locked := writeKey(t, private, ""), writeKey(t, private, "pass")
	known, token := writeTemp(t, ""), writeTemp(t, "token")
	missing := filepath.Join(t.TempDir(), "missing")
	const secret = "hunter2"
	for _, c := range []struct {
		name  string
		cfg   Config
		words string
	}{
		{"no url", Config{}, "no git URL"},
		{"password in url", Config{URL: "https://bob:" + secret + "@example.com/r.git"}, "holds a password"},
		{"password in scp form", Config{URL: "bob:" + secret + "@example.com:r.git"}, "git URL"},
		{"odd url", Config{URL: "https://bob:" + secret + "%zz@example.com/r.git"}, "not valid"},
		{"git scheme", Config{URL: "git://example.com/r.git"}, `"git" are not supported`},
		{"no repository", Config{URL: "https://example.com"}, "no repository"},
		{"query", Config{URL: "https://example.com/r?token=" + secret}, "not valid"},
		{"missing path", Config{URL: missing}, "no such file"},
		{"path is a file", Config{URL: known}, "not a directory"},
		{"branch", Config{URL: "https://example.com/r", Branch: "a..b"}, "not a branch name"},
		{"path leaves", Config{URL: "https://example.com/r", Path: "../x"}, "inside the repository"},
		{"poll", Config{URL: "https://example.com/r", Poll: time.Millisecond}, "too short"},
		{"negative limit", Config{URL: "https://example.com/r", Limits: Limits{Pack: -1}}, "negative"},
		{"token file missing", Config{URL: "https://example.com/r", TokenFile: missing}, "reading the token file"},
		{"token file empty", Config{URL: "https://example.com/r", TokenFile: known}, "is empty"},
		{"two secrets", Config{URL: "https://example.com/r", TokenFile: token, PasswordFile: token}, "one of them"},
		{"no user", Config{URL: "https://example.com/r", PasswordFile: token}, "user name"},
		{"plain http", Config{URL: "http://example.com/r", TokenFile: token}, "plain http"},
		{"token without http", Config{URL: "ssh://example.com/r", TokenFile: token}, "http(s)"},
		{"ca missing", Config{URL: "https://example.com/r", CAFile: missing}, "CA file"},
		{"ca bad", Config{URL: "https://example.com/r", CAFile: token}, "no certificate"},
		{"no ssh key", Config{URL: "git@example.com:r", KnownHostsFile: known}, "needs an ssh key file"},
		{"no known hosts", Config{URL: "git@example.com:r", SSHKeyFile: key}, "needs a known_hosts file"},
		{"ssh key missing", Config{URL: "git@example.com:r", SSHKeyFile: missing, KnownHostsFile: known}, "reading the ssh key file"},
		{"ssh key bad", Config{URL: "git@example.com:r", SSHKeyFile: token, KnownHostsFile: known}, "no private key"},
		{"ssh key locked", Config{URL: "git@example.com:r", SSHKeyFile: locked, KnownHostsFile: known}, "needs a passphrase"},
		{"wrong passphrase", Config{URL: "git@example.com:r", SSHKeyFile: locked, SSHKeyPassphraseFile: token, KnownHostsFile: known}, "passphrase"},
		{"known hosts missing", Config{URL: "git@example.com:r", SSHKeyFile: key, KnownHostsFile: missing}, "known_hosts"},
		{"known hosts bad", Config{URL: "git@example.com:r", SSHKeyFile: key, KnownHostsFile: token}, "known_hosts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.cfg)
			if err == nil || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("New: %v, want %q", err, c.words)
			}
			if text := err.Error(); strings.Contains(text, "\n") || strings.Contains(text, secret) {
				t.Fatalf("New: %q", text)
			}
		})
	}
}

func TestLocations(t *testing.T) {
	for raw, want := range map[string]location{
		"https://bob@example.com:8443/a/b.git/": {protocol: overHTTP, secure: true, user: "bob", host: "example.com:8443", path: "/a/b.git", text: "https://example.com:8443/a/b.git/"},
		"http://[::1]/a":                        {protocol: overHTTP, host: "[::1]", path: "/a", text: "http://[::1]/a"},
		"ssh://git@example.com/a/b":             {protocol: overSSH, user: "git", host: "example.com:22", path: "/a/b", text: "ssh://example.com:22/a/b"},
		"ssh://[::1]:2222/~bob/b":               {protocol: overSSH, host: "[::1]:2222", path: "~bob/b", text: "ssh://[::1]:2222/~bob/b"},
		"git@example.com:a/b.git":               {protocol: overSSH, user: "git", host: "example.com:22", path: "a/b.git", text: "example.com:a/b.git"},
		"file:///srv/git/../x":                  {path: "/srv/x", text: "/srv/x"},
		"/srv/git:x":                            {path: "/srv/git:x", text: "/srv/git:x"},
	} {
		got, err := parseLocation(raw)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", raw, got, err, want)
		}
	}
}

func FuzzLocation(f *testing.F) {
	for _, seed := range []string{
		"https://bob@example.com/a", "git@example.com:a/b", "ssh://x:y@z/w", "file:///a", "./a:b", "a:b:c@d", "http://%zz", "-oProxyCommand=x:y",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		l, err := parseLocation(raw)
		if err != nil {
			return
		}
		if l.text == "" || l.path == "" || l.protocol != onDisk && (l.host == "" || strings.HasPrefix(l.host, "-")) {
			t.Fatalf("%q: %+v", raw, l)
		}
		if strings.Contains(l.user, ":") && !strings.Contains(raw, "%") {
			t.Fatalf("%q: a password in the user %q", raw, l.user)
		}
	})
}

func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a\x0001234567890123456789"))
	f.Add([]byte("40000 a\x0001234567890123456789120000 b\x0001234567890123456789"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := parseTree(raw, "")
		if err == nil && len(raw) > 0 && len(entries) == 0 {
			t.Fatal("something became nothing")
		}
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"  a\r\n\tb  ":             "a b",
		"a\x1b[31mb\x00c\u0085d":   "a [31mb c d",
		strings.Repeat("ab ", 100): "ab ab ab ab ab ab a",
		"\xff\xfeok":               "??ok",
	} {
		if got := printable(in, 20); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// Every series is there from the start, and looks move them.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	_, s, f := followed(t, func(c *Config) { c.Registerer = registry })
	f.wantNothing()
	s.set(answer(404, ""))
	f.wantReason(RepositoryMissing)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	counts, series, head := map[string]float64{}, 0, ""
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "bellwether_git_") || family.GetHelp() == "" {
			t.Errorf("metric %s", family.GetName())
		}
		for _, m := range family.GetMetric() {
			switch family.GetName() {
			case "bellwether_git_requests_total":
				series++
				counts[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			case "bellwether_git_head_info":
				head += m.GetLabel()[1].GetValue()
			case "bellwether_git_last_success_timestamp_seconds", "bellwether_git_head_commit_timestamp_seconds":
				if age := float64(time.Now().Unix()) - m.GetGauge().GetValue(); age < -1 || age > 60 {
					t.Errorf("%s is %f s old", family.GetName(), age)
				}
			}
		}
	}
	if want := 2 * (len(reasons()) + 1); series != want {
		t.Errorf("%d series of requests, want %d", series, want)
	}
	if counts["ls_remote success"] != 2 || counts["fetch success"] != 1 || counts["ls_remote repository_missing"] != 1 {
		t.Errorf("counts: %v", counts)
	}
	if head != f.last.Revision.ID {
		t.Errorf("head_info %q, want %q", head, f.last.Revision.ID)
	}
}

// The byte budget: a poll below 1 KB, one new commit below 10 KB.
func TestByteBudget(t *testing.T) {
	r := newRepo(t)
	var files []string
	for i := range 300 {
		files = append(files, filepath.Join("dir", noise(i + 41)[i:]+".yaml"), noise(2000 + i)[i:])
	}
	good := r.commit("good", files...)
	var refs strings.Builder
	for i := range 200 {
		fmt.Fprintf(&refs, "%s refs/tags/t%d\n", good, i)
	}
	if err := os.WriteFile(filepath.Join(r.dir, ".git", "packed-refs"), []byte(refs.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, r)
	f := follow(t, Config{URL: s.url(r)})
	f.wantRevision(good)
	measure := func(what string, limit int64, do func()) {
		t.Helper()
		before, requests := s.sent.Load(), s.requests.Load()
		do()
		n := s.sent.Load() - before
		t.Logf("%s: %d bytes, %d requests", what, n, s.requests.Load()-requests)
		if n > limit {
			t.Errorf("%s took %d bytes, want at most %d", what, n, limit)
		}
	}
	measure("no-change poll", 1000, f.wantNothing)
	next := r.commit("next", files[0], "changed")
	if err := os.Remove(filepath.Join(r.dir, ".git", "packed-refs")); err != nil {
		t.Fatal(err) // the list of references counts for itself
	}
	measure("one new commit", 10_000, func() { f.wantRevision(next) })
}

// Servers that speak version 0 only are asked for their whole list.
func TestServerWithoutVersion2(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.yaml", "1")
	inner := (&server{}).handler(t, r)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Header.Del("Git-Protocol")
		inner.ServeHTTP(w, req)
	}))
	defer old.Close()
	f := follow(t, Config{URL: old.URL + "/" + filepath.Base(r.dir)})
	f.wantRevision(good)
	f.wantNothing()
	f.wantRevision(r.commit("next", "a.yaml", "2"))
}
