package gitsource

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshServer runs git-upload-pack for one authorized key.
type sshServer struct {
	addr     string
	host     ssh.Signer
	accepted atomic.Pointer[ssh.PublicKey]
	command  atomic.Pointer[[]string] // runs instead of git-upload-pack
	users    chan string
}

func newKey(t testing.TB) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, private
}

func writeKey(t testing.TB, private ed25519.PrivateKey, passphrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return writeTemp(t, string(pem.EncodeToMemory(block)))
}

func writeTemp(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func serveSSH(t testing.TB) (*sshServer, ed25519.PrivateKey) {
	t.Helper()
	host, _ := newKey(t)
	user, private := newKey(t)
	s := &sshServer{host: host, users: make(chan string, 100)}
	public := user.PublicKey()
	s.accepted.Store(&public)
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string((*s.accepted.Load()).Marshal()) {
			return nil, io.EOF
		}
		select {
		case s.users <- c.User():
		default: // nobody asks
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { s.serve(conn, config) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return s, private
}

func (s *sshServer) serve(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	c, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer c.Close()
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		s.session(channel, requests)
	}
}

func (s *sshServer) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for req := range requests {
		if req.Type != "exec" {
			_ = req.Reply(false, nil)
			continue
		}
		var payload struct{ Command string }
		_ = ssh.Unmarshal(req.Payload, &payload)
		_ = req.Reply(true, nil)
		args := []string{"sh", "-c", payload.Command}
		if other := s.command.Load(); other != nil {
			args = *other
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
		cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
		in, err := cmd.StdinPipe() // not Stdin: Wait would wait for the client to close it
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(in, channel); in.Close() }()
		code := byte(0)
		if err := cmd.Run(); err != nil {
			code = 1
		}
		_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, code})
		return
	}
}

// knownHosts writes a file that holds keys for the server.
func (s *sshServer) knownHosts(t testing.TB, keys ...ssh.PublicKey) string {
	t.Helper()
	var b strings.Builder
	for _, key := range keys {
		b.WriteString(knownhosts.Line([]string{knownhosts.Normalize(s.addr)}, key) + "\n")
	}
	return writeTemp(t, b.String())
}

func pemCertificate(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}
