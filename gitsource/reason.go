package gitsource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Reason says in one word why the last look at the remote did not succeed. It is
// what stands in [fleet.SourceStatus].Reason and in the label result of
// bellwether_git_requests_total. The set is closed.
type Reason string

// The reasons. In each of them the last good snapshot stays in force.
const (
	// OK: the remote answered, and its tip is known and fetched.
	OK Reason = ""
	// Unreachable: name lookup, connection, time-out, 5xx, or an answer that broke
	// off. Retried with exponential backoff.
	Unreachable Reason = "unreachable"
	// TLSFailed: the server's certificate is not trusted or not valid. Backoff.
	TLSFailed Reason = "tls_failed"
	// RateLimited: the server said 429, or 503 with Retry-After, which is honoured.
	RateLimited Reason = "rate_limited"
	// AuthFailed: 401, 403 or an SSH key that is not accepted, or a secret file that
	// cannot be read. Retried at the poll interval, and at once when a secret file
	// changes.
	AuthFailed Reason = "auth_failed"
	// HostKey: the SSH server's key is not in known_hosts, or is another one.
	// Retried like AuthFailed.
	HostKey Reason = "host_key"
	// RepositoryMissing: 404, or the directory is not there. A private repository
	// answers like this to bad credentials. Retried at the poll interval.
	RepositoryMissing Reason = "repository_missing"
	// RefMissing: the repository has no such branch, or has it no more. Retried at
	// the poll interval.
	RefMissing Reason = "ref_missing"
	// PathMissing: the revision has nothing at --git-path. Looked at again when the
	// tip moves.
	PathMissing Reason = "path_missing"
	// Empty: the repository has no commits, or the revision no files. Retried at the
	// poll interval.
	Empty Reason = "empty"
	// LimitExceeded: something is larger than [Limits] allow. Not fetched again
	// until the tip moves.
	LimitExceeded Reason = "limit_exceeded"
	// InvalidTree: the revision has file names that no honest git makes. Not fetched
	// again until the tip moves.
	InvalidTree Reason = "invalid_tree"
	// Corrupt: an object is missing or is not what its name says. Backoff.
	Corrupt Reason = "corrupt"
	// Unsupported: not a smart git server, a SHA-256 repository, alternates, a
	// partial clone, reftable. Retried at the poll interval.
	Unsupported Reason = "unsupported"
	// Internal: a bug of ours, caught. Not fetched again until the tip moves.
	Internal Reason = "internal"
)

// reasons lists every [Reason] but OK.
func reasons() []Reason {
	return []Reason{
		Unreachable, TLSFailed, RateLimited, AuthFailed, HostKey, RepositoryMissing, RefMissing,
		PathMissing, Empty, LimitExceeded, InvalidTree, Corrupt, Unsupported, Internal,
	}
}

// transient reports whether trying again soon may help, so that the retries are
// spaced by backoff instead of the poll interval.
func (r Reason) transient() bool {
	switch r {
	case Unreachable, TLSFailed, RateLimited, Corrupt:
		return true
	}
	return false
}

// final reports whether fetching the same tip again cannot help.
func (r Reason) final() bool {
	switch r {
	case LimitExceeded, InvalidTree, PathMissing, Internal:
		return true
	}
	return false
}

// locked reports whether a changed secret file may help.
func (r Reason) locked() bool { return r == AuthFailed || r == HostKey }

// failure is an error with its reason. Its text is fit for people: it holds no
// secret and at most maxMessage bytes of what a server said.
type failure struct {
	reason Reason
	err    error
	after  time.Duration // what the server asked us to wait
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(reason Reason, format string, args ...any) error {
	return &failure{reason: reason, err: fmt.Errorf(format, args...)}
}

// classify finds the failure in err; an error nobody has classified is a remote
// that did not answer as it should.
func classify(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		if error(f) == err { //nolint:errorlint // asks whether anything is wrapped around it
			return f
		}
		return &failure{reason: f.reason, after: f.after, err: err}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &failure{reason: Unreachable, err: errors.New("no complete answer in time")}
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL: a redirect's may hold a secret
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the server closed the connection: %w", err)
	}
	reason := Unreachable
	if isTLS(err) {
		reason = TLSFailed
	}
	return &failure{reason: reason, err: err}
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.AlertError](err)
	return ok
}

// maxServerText is how much of a server's words we repeat, maxMessage how long a
// message is at most; both in bytes.
const (
	maxServerText = 200
	maxMessage    = 400
)

// printable cuts text to n bytes of one printable line.
func printable(text string, n int) string {
	var b strings.Builder
	space := false
	for _, r := range text {
		if r < 0x20 || r == 0x7f || r == ' ' || r == 0x85 || r == 0x2028 || r == 0x2029 {
			space = b.Len() > 0
			continue
		}
		if r == utf8.RuneError || r >= 0x80 && r < 0xa0 {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r)+1 > n {
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}
