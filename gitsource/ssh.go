package gitsource

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshTransport speaks to git-upload-pack over SSH, one connection for each
// session. Agent, ~/.ssh and environment are not looked at.
type sshTransport struct {
	cfg *Config
	at  location

	// The key as it was read last: a passphrase takes a tenth of a second to try.
	pem, passphrase []byte
	signer          ssh.Signer
}

const defaultSSHUser = "git"

func newSSHTransport(cfg *Config, l location) (*sshTransport, error) {
	if cfg.SSHKeyFile == "" {
		return nil, errors.New("an ssh URL needs an ssh key file")
	}
	if cfg.KnownHostsFile == "" {
		return nil, errors.New("an ssh URL needs a known_hosts file")
	}
	t := &sshTransport{cfg: cfg, at: l}
	_, err := t.clientConfig()
	return t, err
}

func (t *sshTransport) close() {}

// clientConfig reads the files of the configuration, each time anew.
func (t *sshTransport) clientConfig() (*ssh.ClientConfig, error) {
	signer, err := t.key()
	if err != nil {
		return nil, &failure{reason: AuthFailed, err: err}
	}
	if _, err := readFile("known_hosts file", t.cfg.KnownHostsFile); err != nil {
		return nil, &failure{reason: HostKey, err: err}
	}
	check, err := knownhosts.New(t.cfg.KnownHostsFile)
	if err != nil {
		return nil, fail(HostKey, "reading the known_hosts file: %w", err)
	}
	user := t.at.user
	if user == "" {
		user = t.cfg.Username
	}
	if user == "" {
		user = defaultSSHUser
	}
	return &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: hostKeyAlgorithms(check, t.at.host),
		ClientVersion:     "SSH-2.0-bellwether",
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			return hostKeyFailure(check(host, remote, key), host, key)
		},
	}, nil
}

// key reads the key file and its passphrase, and uses what it has if they are
// still the same.
func (t *sshTransport) key() (ssh.Signer, error) {
	pem, err := readFile("ssh key file", t.cfg.SSHKeyFile)
	if err != nil {
		return nil, err
	}
	var passphrase []byte
	if t.cfg.SSHKeyPassphraseFile != "" {
		text, err := readSecret("ssh key passphrase file", t.cfg.SSHKeyPassphraseFile)
		if err != nil {
			return nil, err
		}
		passphrase = []byte(text)
	}
	if t.signer != nil && bytes.Equal(pem, t.pem) && bytes.Equal(passphrase, t.passphrase) {
		return t.signer, nil
	}
	signer, err := parseKey(t.cfg.SSHKeyFile, pem, passphrase)
	if err == nil {
		t.pem, t.passphrase, t.signer = pem, passphrase, signer
	}
	return signer, err
}

func parseKey(name string, pem, passphrase []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(pem)
	if err == nil {
		return signer, nil
	}
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); !locked {
		return nil, fmt.Errorf("the ssh key file %s holds no private key: %w", name, err)
	}
	if passphrase == nil {
		return nil, fmt.Errorf("the ssh key file %s needs a passphrase file", name)
	}
	if signer, err = ssh.ParsePrivateKeyWithPassphrase(pem, passphrase); err != nil {
		return nil, fmt.Errorf("the ssh key file %s cannot be used with its passphrase: %w", name, err)
	}
	return signer, nil
}

func hostKeyFailure(err error, host string, key ssh.PublicKey) error {
	if err == nil {
		return nil
	}
	got := ssh.FingerprintSHA256(key)
	if k, ok := errors.AsType[*knownhosts.KeyError](err); ok {
		if len(k.Want) == 0 {
			return fail(HostKey, "the host %s with the key %s is not in known_hosts", host, got)
		}
		return fail(HostKey, "the host %s has the key %s, which is not the one in known_hosts: somebody may be in between", host, got)
	}
	return fail(HostKey, "the host key %s of %s is not accepted: %w", got, host, err)
}

// hostKeyAlgorithms asks known_hosts which keys it has for a host, so that the
// server shows one of those and not another that we cannot check. nil, the
// default, if it has none.
func hostKeyAlgorithms(check ssh.HostKeyCallback, host string) []string {
	err := check(host, &net.TCPAddr{}, noKey{})
	k, ok := errors.AsType[*knownhosts.KeyError](err)
	if !ok {
		return nil
	}
	var algorithms []string
	for _, want := range k.Want {
		if want.Key.Type() == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		algorithms = append(algorithms, want.Key.Type())
	}
	return algorithms
}

// noKey is a public key that no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// deadlineConn gives every read and write a deadline: x/crypto/ssh has none of
// its own and knows no contexts, so a silent peer would hold us for ever.
type deadlineConn struct {
	net.Conn
	idle time.Duration
}

func (c deadlineConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c deadlineConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// words keeps the beginning of what a server writes to its standard error.
type words struct {
	mu   sync.Mutex // guards text; the ssh library writes from its own goroutine
	text bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if left := 4096 - w.text.Len(); left > 0 {
		w.text.Write(p[:min(left, len(p))])
	}
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

type sshSession struct {
	cfg     *Config
	client  *ssh.Client
	session *ssh.Session
	stdin   io.WriteCloser
	body    *limited
	stderr  *words
	adv     *packp.AdvRefs
	stop    func() bool
	asked   bool
}

func (t *sshTransport) open(ctx context.Context) (session, error) {
	s, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	if s.adv, err = readAdvertisement(s.body); err == nil && s.adv == nil {
		err = fail(Unsupported, "the server speaks git protocol version 2 only")
	}
	if err != nil {
		s.close()
		return nil, s.explain(err)
	}
	return s, nil
}

// dial connects and starts git-upload-pack. ctx ends the connection.
func (t *sshTransport) dial(ctx context.Context) (*sshSession, error) {
	config, err := t.clientConfig()
	if err != nil {
		return nil, err
	}
	idle := t.cfg.Limits.Idle
	conn, err := (&net.Dialer{Timeout: idle}).DialContext(ctx, "tcp", t.at.host)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(deadlineConn{conn, idle}, t.at.host, config)
	if err != nil {
		stop()
		conn.Close()
		return nil, handshakeFailure(ctx, err)
	}
	s := &sshSession{cfg: t.cfg, client: ssh.NewClient(c, channels, requests), stderr: &words{}, stop: stop}
	if err := s.start(uploadPack + " " + quote(t.at.path)); err != nil {
		s.close()
		return nil, s.explain(err)
	}
	return s, nil
}

func handshakeFailure(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// x/crypto/ssh has no types for these.
	if strings.Contains(err.Error(), "no common algorithm for host key") {
		return fail(HostKey, "the server has no host key of a kind that is in known_hosts")
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return fail(AuthFailed, "the server does not accept the ssh key")
	}
	return fmt.Errorf("ssh handshake: %w", err)
}

// quote makes one argument of a shell command.
func quote(path string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(path) + "'"
}

func (s *sshSession) start(command string) error {
	session, err := s.client.NewSession()
	if err != nil {
		return err
	}
	s.session = session
	session.Stderr = s.stderr
	if s.stdin, err = session.StdinPipe(); err != nil {
		return err
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	// Buffered: each read of the channel is answered by a window adjustment.
	s.body = newLimited(bufio.NewReaderSize(stdout, 32<<10), "the list of references", s.cfg.Limits.Advertisement)
	return session.Start(command)
}

func (t *sshTransport) tip(ctx context.Context, branch string) (plumbing.Hash, error) {
	s, err := t.open(ctx)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer s.close()
	return branchTip(s.refs(), branch)
}

func (s *sshSession) refs() *packp.AdvRefs { return s.adv }

func (s *sshSession) send(_ context.Context, req *packp.UploadPackRequest) (*limited, error) {
	s.asked = true
	var content bytes.Buffer
	if err := encodeRequest(&content, req, true); err != nil {
		return nil, err
	}
	if _, err := s.stdin.Write(content.Bytes()); err != nil {
		return nil, s.explain(err)
	}
	if err := s.stdin.Close(); err != nil {
		return nil, s.explain(err)
	}
	s.body.allow(packWords, s.cfg.Limits.Advertisement)
	return s.body, nil
}

// explain prefers the server's own words, which come on another stream and only
// when it has given up.
func (s *sshSession) explain(err error) error {
	if f := classify(err); f.reason != Unreachable {
		return err
	}
	if text := s.stderr.String(); strings.TrimSpace(text) != "" {
		return serverError(text)
	}
	return err
}

func (s *sshSession) close() {
	if s.session != nil && !s.asked && s.stdin != nil {
		_, _ = io.WriteString(s.stdin, "0000") // nothing wanted: a polite end
		_ = s.stdin.Close()
	}
	s.client.Close()
	_ = s.client.Wait() // so that stderr is complete and no goroutine is left
	s.stop()
}
