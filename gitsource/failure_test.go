package gitsource

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The rows of the failure table: what happens, what is said, and that the last
// good snapshot stays in force. fleetRepo is good before and after each.

func followed(t *testing.T, change func(*Config)) (*repo, *server, *follower) {
	t.Helper()
	r := newRepo(t)
	good := r.commit("good", "rollout.yaml", "kind: Rollout\n", "configs/base.yaml", "receivers: {}\n")
	s := serve(t, r)
	cfg := Config{URL: s.url(r)}
	if change != nil {
		change(&cfg)
	}
	f := follow(t, cfg)
	f.wantRevision(good)
	return r, s, f
}

func answer(status int, body string, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

func TestFailureHTTPStatus(t *testing.T) {
	r, s, f := followed(t, nil)
	for _, c := range []struct {
		status int
		reason Reason
		header []string
	}{
		{401, AuthFailed, nil},
		{403, AuthFailed, nil},
		{403, RateLimited, []string{"Retry-After", "60"}},
		{404, RepositoryMissing, nil},
		{410, RepositoryMissing, nil},
		{418, Unsupported, nil},
		{429, RateLimited, []string{"Retry-After", "120"}},
		{429, RateLimited, nil},
		{500, Unreachable, nil},
		{502, Unreachable, nil},
		{503, Unreachable, nil},
		{503, RateLimited, []string{"Retry-After", "7"}},
		{504, Unreachable, nil},
	} {
		t.Run(fmt.Sprint(c.status, c.header), func(t *testing.T) {
			s.set(answer(c.status, "oh\x1b[31m no\n"+strings.Repeat("x", 5000), c.header...))
			u := f.wantReason(c.reason, fmt.Sprint(c.status), "oh [31m no")
			if u.Status.Failures != 1 {
				t.Fatalf("%d failures, want 1", u.Status.Failures)
			}
			if len(c.header) > 0 {
				wait := time.Until(u.Status.NextPoll)
				if asked, _ := time.ParseDuration(c.header[1] + "s"); wait < asked-time.Second {
					t.Fatalf("next poll in %s, the server asked for %s", wait, asked)
				}
			}
			s.set(nil)
			f.wantNothing()
		})
	}
	f.wantRevision(r.commit("better", "a.yaml", "a: 1\n"))
}

func TestFailureNoSuchHost(t *testing.T) {
	f := follow(t, Config{URL: "http://does-not-exist.invalid/repo.git"})
	f.wantReason(Unreachable)
}

func TestFailureConnectionRefused(t *testing.T) {
	_, s, f := followed(t, nil)
	s.Close()
	f.wantReason(Unreachable, "refused")
	if u := f.wantReason(Unreachable); u.Status.Failures != 2 {
		t.Fatalf("%d failures in a row, want 2", u.Status.Failures)
	}
}

func TestFailureTLSNotTrusted(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.yaml", "a: 1\n")
	s := &server{}
	tls := httptest.NewUnstartedServer(s.handler(t, r))
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	url := tls.URL + "/" + r.dir[strings.LastIndex(r.dir, "/")+1:]
	f := follow(t, Config{URL: url})
	f.wantReason(TLSFailed, "certificate")

	ca := writeTemp(t, string(pemCertificate(tls.Certificate().Raw)))
	f = follow(t, Config{URL: url, CAFile: ca})
	f.wantRevision(good)
	if err := os.WriteFile(ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.wantReason(TLSFailed, "holds no certificate")
}

// A server that takes the connection and never answers.
func TestFailureTarpitHTTP(t *testing.T) {
	_, s, f := followed(t, func(c *Config) { c.Limits.Look = 50 * time.Millisecond })
	s.set(func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that we leave
		<-r.Context().Done()
		return true
	})
	f.wantReason(Unreachable, "in time")
}

func TestFailureTarpitSSH(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, _ := newKey(t)
	_, key := newKey(t)
	s := &sshServer{addr: l.Addr().String()}
	cfg := Config{
		URL: "ssh://" + s.addr + "/repo", SSHKeyFile: writeKey(t, key, ""),
		KnownHostsFile: s.knownHosts(t, host.PublicKey()),
	}
	t.Run("silent", func(t *testing.T) {
		cfg := cfg
		cfg.Limits = Limits{Idle: 50 * time.Millisecond}
		follow(t, cfg).wantReason(Unreachable, "timeout")
	})
	t.Run("too slow", func(t *testing.T) {
		cfg := cfg
		cfg.Limits = Limits{Look: 50 * time.Millisecond}
		follow(t, cfg).wantReason(Unreachable, "in time")
	})
}

// A pack that breaks off: the next look gets it whole.
func TestFailureTruncatedPack(t *testing.T) {
	for _, size := range []int{0, 4, 60, 200} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r, s, f := followed(t, nil)
			next := r.commit("next", "a.yaml", "a: 1\n", "b.yaml", strings.Repeat("b", 3000))
			s.set(truncatePacks(t, s, r, size))
			f.wantReason(Unreachable)
			s.set(nil)
			f.wantRevision(next)
		})
	}
}

// truncatePacks answers questions for a pack with its first bytes.
func truncatePacks(t *testing.T, s *server, r *repo, size int) func(http.ResponseWriter, *http.Request) bool {
	plain := (&server{}).handler(t, r)
	return func(w http.ResponseWriter, req *http.Request) bool {
		content, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(content))
		if !bytes.Contains(content, []byte("want ")) {
			return false
		}
		rec := httptest.NewRecorder()
		plain.ServeHTTP(rec, req)
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		_, _ = w.Write(rec.Body.Bytes()[:min(size, rec.Body.Len())])
		return true
	}
}

// "not our ref": a replica that does not have yet what the other advertised.
func TestFailureNotOurRef(t *testing.T) {
	r, s, f := followed(t, nil)
	next := r.commit("next", "a.yaml", "a: 1\n")
	s.set(func(w http.ResponseWriter, req *http.Request) bool {
		content, _ := io.ReadAll(req.Body)
		content = bytes.ReplaceAll(content, []byte("want "+next), []byte("want "+strings.Repeat("12345678", 5)))
		req.Body = io.NopCloser(bytes.NewReader(content))
		return false
	})
	f.wantReason(Unreachable, "not our ref")
	s.set(nil)
	f.wantRevision(next)
}

func TestFailureNotAGitServer(t *testing.T) {
	_, s, f := followed(t, nil)
	s.set(answer(200, "<html>Please log in</html>", "Content-Type", "text/html"))
	f.wantReason(Unreachable) // the question for one branch: the answer is none
	f.wantReason(Unsupported, "smart git server")
}

// The server echoes what it was sent; nothing of it is shown.
func TestFailureNeverShowsSecrets(t *testing.T) {
	const token = "s3cr3t-t0ken"
	_, s, f := followed(t, func(c *Config) { c.TokenFile = writeTemp(t, token+"\n") })
	s.set(func(w http.ResponseWriter, req *http.Request) bool {
		user, password, _ := req.BasicAuth()
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "denied: %s %s %s", user, password, req.Header.Get("Authorization"))
		return true
	})
	u := f.wantReason(AuthFailed, "denied: x-access-token ***")
	if text := fmt.Sprint(u); strings.Contains(text, token) || strings.Contains(text, "eC1hY2Nlc3MtdG9rZW4") {
		t.Fatalf("the status shows the secret: %s", text)
	}
}

// A rotated token is used by the next look.
func TestFailureTokenRejectedUntilRotated(t *testing.T) {
	file := writeTemp(t, "old\n")
	_, s, f := followed(t, func(c *Config) { c.TokenFile, c.Username = file, "bot" })
	s.set(func(w http.ResponseWriter, req *http.Request) bool {
		user, password, _ := req.BasicAuth()
		if user == "bot" && password == "new" {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	f.wantReason(AuthFailed, "401")
	if err := os.WriteFile(file, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.wantNothing()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.wantReason(AuthFailed, "token file")
}

// Credentials do not follow a redirect to another host.
func TestFailureRedirectToAnotherHost(t *testing.T) {
	seen := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen = true }))
	defer other.Close()
	r := newRepo(t)
	r.commit("good", "a.yaml", "a: 1\n")
	s := serve(t, r)
	s.set(func(w http.ResponseWriter, req *http.Request) bool {
		http.Redirect(w, req, other.URL+req.URL.Path+"?token=hidden", http.StatusFound)
		return true
	})
	f := follow(t, Config{URL: s.url(r), TokenFile: writeTemp(t, "token")})
	u := f.wantReason(Unsupported, "redirects")
	if seen || strings.Contains(u.Status.Message, "hidden") {
		t.Fatalf("the redirect was followed (%t) or shown: %s", seen, u.Status.Message)
	}
}

// A renamed repository on the same host is found.
func TestRedirectWithinTheHost(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.yaml", "a: 1\n")
	s := serve(t, r)
	s.set(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasPrefix(req.URL.Path, "/old/") {
			return false
		}
		http.Redirect(w, req, strings.Replace(req.URL.String(), "/old/", "/", 1), http.StatusMovedPermanently)
		return true
	})
	f := follow(t, Config{URL: strings.Replace(s.url(r), s.URL, s.URL+"/old", 1)})
	f.wantRevision(good)
	f.wantRevision(r.commit("next", "a.yaml", "a: 2\n"))
}

func TestFailureSSHKeyNotAccepted(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.yaml", "a: 1\n")
	s, key := serveSSH(t)
	file := writeKey(t, key, "")
	f := follow(t, Config{URL: "ssh://" + s.addr + r.dir, SSHKeyFile: file, KnownHostsFile: s.knownHosts(t, s.host.PublicKey())})
	f.wantRevision(good)
	if user := <-s.users; user != "git" {
		t.Fatalf("user %q, want git", user)
	}
	_, stranger := newKey(t)
	renameOver(t, writeKey(t, stranger, ""), file)
	f.wantReason(AuthFailed, "does not accept the ssh key")
	renameOver(t, writeKey(t, key, ""), file)
	f.wantNothing()
}

func TestFailureHostKey(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.yaml", "a: 1\n")
	s, key := serveSSH(t)
	stranger, _ := newKey(t)
	passphrase := writeTemp(t, "pass phrase\n")
	known := s.knownHosts(t)
	f := follow(t, Config{
		URL: "ssh://" + s.addr + r.dir, KnownHostsFile: known,
		SSHKeyFile: writeKey(t, key, "pass phrase"), SSHKeyPassphraseFile: passphrase,
	})
	f.wantReason(HostKey, "is not in known_hosts", ssh.FingerprintSHA256(s.host.PublicKey()))
	renameOver(t, s.knownHosts(t, stranger.PublicKey()), known)
	f.wantReason(HostKey, "somebody may be in between")
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	renameOver(t, s.knownHosts(t, public), known)
	f.wantReason(HostKey, "of a kind that is in known_hosts")
	renameOver(t, s.knownHosts(t, stranger.PublicKey(), s.host.PublicKey()), known)
	f.wantRevision(good)
}

func TestFailureSSHRepositoryMissing(t *testing.T) {
	s, key := serveSSH(t)
	f := follow(t, Config{
		URL:        "ssh://" + s.addr + "/no/such/repository",
		SSHKeyFile: writeKey(t, key, ""), KnownHostsFile: s.knownHosts(t, s.host.PublicKey()),
	})
	f.wantReason(RepositoryMissing, "the server says")
}

func renameOver(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
