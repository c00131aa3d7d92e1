package gitsource

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

const (
	infoRefs      = "/info/refs"
	uploadPack    = "git-upload-pack"
	requestType   = "application/x-git-upload-pack-request"
	resultType    = "application/x-git-upload-pack-result"
	advertiseType = "application/x-git-upload-pack-advertisement"
)

// httpTransport speaks the smart HTTP protocol. One connection is kept alive
// between polls. It belongs to the goroutine that looks.
type httpTransport struct {
	cfg    *Config
	base   string // of the repository
	client *http.Client
	ca     []byte // what the client was made with

	// v2 is where protocol version 2 was spoken last: there, a poll is one small
	// question about one branch instead of the list of all references.
	v2 string
}

func newHTTPTransport(cfg *Config, l location) (*httpTransport, error) {
	t := &httpTransport{cfg: cfg, base: l.base()}
	return t, t.refresh()
}

// refresh makes a new client when the CA file has changed.
func (t *httpTransport) refresh() error {
	var ca []byte
	if t.cfg.CAFile != "" {
		var err error
		if ca, err = readFile("CA file", t.cfg.CAFile); err != nil {
			return &failure{reason: TLSFailed, err: err}
		}
	}
	if t.client != nil && bytes.Equal(ca, t.ca) {
		return nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil || roots == nil {
		roots = x509.NewCertPool()
	}
	if len(ca) > 0 && !roots.AppendCertsFromPEM(ca) {
		return fail(TLSFailed, "the CA file %s holds no certificate", t.cfg.CAFile)
	}
	t.close()
	t.ca = ca
	t.client = &http.Client{
		CheckRedirect: sameHost,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: t.cfg.Limits.Idle, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   t.cfg.Limits.Idle,
			MaxIdleConns:          2,
			IdleConnTimeout:       2*t.cfg.Poll + 10*time.Second,
			ForceAttemptHTTP2:     true,
			ExpectContinueTimeout: time.Second,
		},
	}
	return nil
}

func (t *httpTransport) close() {
	if t.client != nil {
		t.client.CloseIdleConnections()
	}
}

// sameHost lets a GET be redirected within its host, or from http to https of
// the same host name. Credentials never reach another host.
func sameHost(req *http.Request, via []*http.Request) error {
	from, to := via[0].URL, req.URL
	upgrade := from.Scheme == "http" && to.Scheme == "https" && from.Hostname() == to.Hostname()
	if via[0].Method != http.MethodGet || len(via) > 5 || !(from.Scheme == to.Scheme && from.Host == to.Host || upgrade) {
		return errRedirect
	}
	return nil
}

var errRedirect = errors.New("the server redirects to another host, or in circles: name the final URL")

// do sends one request and returns its body, at most limit bytes of it.
func (t *httpTransport) do(ctx context.Context, req *http.Request, l login, what string, limit int64) (*limited, *http.Response, error) {
	req.Header.Set("User-Agent", "git/bellwether") // some servers look for git/
	if l.password != "" {
		req.SetBasicAuth(l.user, l.password)
	}
	res, err := t.client.Do(req.WithContext(ctx))
	if err != nil {
		if errors.Is(err, errRedirect) {
			return nil, nil, &failure{reason: Unsupported, err: errRedirect}
		}
		return nil, nil, err
	}
	if res.StatusCode == http.StatusOK {
		return newLimited(res.Body, what, limit), res, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	return nil, nil, statusFailure(res, l.redact(string(text)))
}

func statusFailure(res *http.Response, body string) error {
	f := &failure{reason: Unreachable, after: retryAfter(res.Header.Get("Retry-After"))}
	switch code := res.StatusCode; {
	case code == http.StatusTooManyRequests,
		f.after > 0 && (code == http.StatusServiceUnavailable || code == http.StatusForbidden):
		f.reason = RateLimited
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		f.reason = AuthFailed
	case code == http.StatusNotFound, code == http.StatusGone:
		f.reason = RepositoryMissing
	case code < 500:
		f.reason = Unsupported
	}
	text := ""
	if kind := res.Header.Get("Content-Type"); !strings.Contains(kind, "html") {
		text = printable(body, maxServerText)
	}
	f.err = fmt.Errorf("the server answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	if text != "" {
		f.err = fmt.Errorf("%w: %s", f.err, text)
	}
	return f
}

// retryAfter reads seconds only; the date form needs a clock that agrees with
// the server's.
func retryAfter(value string) time.Duration {
	seconds, err := strconv.Atoi(value)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}

// get asks for the advertisement. It returns where the repository is after
// redirects.
func (t *httpTransport) get(ctx context.Context, l login, version2 bool) (*limited, io.Closer, string, error) {
	req, err := http.NewRequest(http.MethodGet, t.base+infoRefs+"?service="+uploadPack, nil)
	if err != nil {
		return nil, nil, "", errURL
	}
	if version2 {
		req.Header.Set("Git-Protocol", "version=2")
	}
	body, res, err := t.do(ctx, req, l, "the list of references", t.cfg.Limits.Advertisement)
	if err != nil {
		return nil, nil, "", err
	}
	if kind := res.Header.Get("Content-Type"); kind != advertiseType {
		res.Body.Close()
		return nil, nil, "", fail(Unsupported, "the server does not answer like a smart git server (content type %q)", printable(kind, 80))
	}
	return body, res.Body, repositoryBase(res.Request.URL), nil
}

func repositoryBase(u *url.URL) string {
	final := *u
	final.RawQuery, final.Fragment, final.User = "", "", nil
	return strings.TrimSuffix(final.String(), infoRefs)
}

func (t *httpTransport) post(ctx context.Context, l login, base string, content []byte, version2 bool, what string, limit int64) (*limited, io.Closer, error) {
	req, err := http.NewRequest(http.MethodPost, base+"/"+uploadPack, bytes.NewReader(content))
	if err != nil {
		return nil, nil, errURL
	}
	req.Header.Set("Content-Type", requestType)
	req.Header.Set("Accept", resultType)
	req.Header["Idempotency-Key"] = nil // never sent: it lets net/http retry on a connection that was closed meanwhile
	if version2 {
		req.Header.Set("Git-Protocol", "version=2")
	}
	body, res, err := t.do(ctx, req, l, what, limit)
	if err != nil {
		return nil, nil, err
	}
	return body, res.Body, nil
}

// tip asks for the commit that branch names.
func (t *httpTransport) tip(ctx context.Context, branch string) (plumbing.Hash, error) {
	l, err := t.prepare()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if t.v2 == "" {
		body, closer, base, err := t.get(ctx, l, true)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		defer closer.Close()
		refs, err := readAdvertisement(body)
		if err != nil {
			return plumbing.ZeroHash, redacted(l, err)
		}
		if refs != nil {
			return branchTip(refs, branch)
		}
		t.v2 = base
	}
	base := t.v2
	t.v2 = "" // until this one has gone well
	body, closer, err := t.post(ctx, l, base, lsRefs(branch), true, "the list of references", t.cfg.Limits.Advertisement)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer closer.Close()
	hash, err := readLsRefs(body, branch)
	if err == nil || classify(err).reason == RefMissing {
		t.v2 = base
	}
	return hash, redacted(l, err)
}

func (t *httpTransport) prepare() (login, error) {
	if err := t.refresh(); err != nil {
		return login{}, err
	}
	l, err := t.cfg.login()
	if err != nil {
		return login{}, &failure{reason: AuthFailed, err: err}
	}
	return l, nil
}

// redacted removes the password from what a server said inside a protocol.
func redacted(l login, err error) error {
	if err == nil || l.password == "" {
		return err
	}
	f := classify(err)
	if text := l.redact(f.Error()); text != f.Error() {
		return &failure{reason: f.reason, after: f.after, err: errors.New(text)}
	}
	return err
}

type httpSession struct {
	t    *httpTransport
	l    login
	base string
	adv  *packp.AdvRefs
	body io.Closer
}

// open starts a session with protocol version 0, whose packs are what the
// measurements are about.
func (t *httpTransport) open(ctx context.Context) (session, error) {
	l, err := t.prepare()
	if err != nil {
		return nil, err
	}
	body, closer, base, err := t.get(ctx, l, false)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	adv, err := readAdvertisement(body)
	if err != nil {
		return nil, redacted(l, err)
	}
	if adv == nil {
		return nil, fail(Unsupported, "the server speaks git protocol version 2 only")
	}
	return &httpSession{t: t, l: l, base: base, adv: adv}, nil
}

func (s *httpSession) refs() *packp.AdvRefs { return s.adv }

func (s *httpSession) send(ctx context.Context, req *packp.UploadPackRequest) (*limited, error) {
	var content bytes.Buffer
	if err := encodeRequest(&content, req, false); err != nil {
		return nil, err
	}
	body, closer, err := s.t.post(ctx, s.l, s.base, content.Bytes(), false, packWords, s.t.cfg.Limits.Advertisement)
	s.body = closer
	return body, err
}

func (s *httpSession) explain(err error) error { return redacted(s.l, err) }

func (s *httpSession) close() {
	if s.body != nil {
		s.body.Close()
	}
}
