//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is one bellwether serve, which may be stopped and started again with its
// data directory and its addresses.
type server struct {
	t    *testing.T
	dir  string // serve.log and data/ are in it
	repo string
	proc *process

	opamp, http, admin string // addresses, known after the first start
}

// serveLog is where the server writes, over all of its lives.
func (s *server) log() string { return filepath.Join(s.dir, "serve.log") }

// start runs serve and returns when it listens everywhere.
func (s *server) start() {
	s.t.Helper()
	bin := programs(s.t).bellwether
	file, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	watch := &listening{file: file, addrs: map[string]string{}, ready: make(chan struct{})}
	s.proc, err = launch(watch, bin, "serve",
		"--git", s.repo, "--git-branch", "main", "--git-path", ".", "--poll", "1s",
		"--data-dir", filepath.Join(s.dir, "data"),
		"--listen-opamp", orAny(s.opamp), "--listen-http", orAny(s.http), "--listen-admin", orAny(s.admin))
	if err != nil {
		s.t.Fatal(err)
	}
	proc := s.proc
	go func() {
		<-proc.done
		file.Close()
	}()
	timer := time.NewTimer(startWithin)
	defer timer.Stop()
	select {
	case <-watch.ready:
	case <-proc.done:
		s.t.Fatalf("serve ended at its start: %v\n%s", proc.cmd.ProcessState, tail(s.log(), 40))
	case <-timer.C:
		s.t.Fatalf("serve did not listen within %v\n%s", startWithin, tail(s.log(), 40))
	}
	s.opamp, s.http, s.admin = watch.addr("opamp"), watch.addr("http"), watch.addr("admin")
}

// startWithin is how long serve may take to listen, and to stop.
const startWithin = 30 * time.Second

func orAny(addr string) string {
	if addr == "" {
		return "127.0.0.1:0"
	}
	return addr
}

// terminate asks serve to stop, as a service manager does, and checks how it went.
func (s *server) terminate() {
	s.t.Helper()
	if !s.proc.runs() {
		s.t.Errorf("serve had ended by itself: %v", s.proc.cmd.ProcessState)
		return
	}
	if err := s.proc.stop(syscall.SIGTERM, startWithin); err != nil {
		s.t.Error(err)
	}
	if code := s.proc.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("serve ended with %v after SIGTERM, want exit status 0", s.proc.cmd.ProcessState)
	}
}

// kill ends serve with no chance to say or write anything.
func (s *server) kill() {
	s.t.Helper()
	if err := s.proc.stop(syscall.SIGKILL, startWithin); err != nil {
		s.t.Error(err)
	}
}

// checkLog fails the test for what must never be in the log of a healthy server:
// a fault of its own, or an error that is not about a rollout or a commit of ours.
func (s *server) checkLog() {
	s.t.Helper()
	text, err := os.ReadFile(s.log())
	if err != nil {
		s.t.Error(err)
	}
	for _, never := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if i := bytes.Index(text, []byte(never)); i >= 0 {
			s.t.Errorf("the log of serve has %q:\n%.4000s", never, text[i:])
		}
	}
	for line := range strings.Lines(string(text)) {
		ours := strings.Contains(line, `msg="phase changed"`) || strings.Contains(line, `msg="revision rejected"`)
		if strings.Contains(line, "level=ERROR") && !ours {
			s.t.Errorf("the log of serve has an error: %s", line)
		}
	}
}

// listening passes a log on to a file and picks the addresses from lines like
//
//	time=… level=INFO msg=listening surface=opamp addr=127.0.0.1:4320
//
// The mutex guards partial and addrs.
type listening struct {
	file *os.File

	mu      sync.Mutex
	partial []byte
	addrs   map[string]string // by surface
	ready   chan struct{}     // closed when all three are known
}

func (l *listening) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			break
		}
		l.partial = rest
		l.line(string(line))
	}
	return l.file.Write(p)
}

func (l *listening) line(line string) {
	if len(l.addrs) == 3 || !strings.Contains(line, "msg=listening") {
		return
	}
	var surface, addr string
	for field := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(field, "surface="); ok {
			surface = v
		}
		if v, ok := strings.CutPrefix(field, "addr="); ok {
			addr = v
		}
	}
	if surface == "" || addr == "" {
		return
	}
	l.addrs[surface] = addr
	if len(l.addrs) == 3 {
		close(l.ready)
	}
}

func (l *listening) addr(surface string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addrs[surface]
}

// opampURL is what a Supervisor connects to.
func (s *server) opampURL() string { return fmt.Sprintf("ws://%s/v1/opamp", s.opamp) }
