package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bellwether-opamp/bellwether/examples"
	"github.com/bellwether-opamp/bellwether/internal/app"
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/internal/web"
)

const demoAgents = 60

// stage is what the demo plays on: a repository, a server, and agents.
type stage struct {
	dir, repo, logFile string
	head               string // of the repository
	opamp, api, admin  string // URLs
	client             *web.Client
	agents             *sim.Fleet
	died               chan error // the server ended by itself

	keep     bool
	server   *exec.Cmd
	stopping atomic.Bool
	exited   chan struct{}
	stopSim  context.CancelFunc
	simDone  chan struct{}
}

// setStage makes the directory and a repository without a commit, with
// examples/quickstart beside it to be committed.
func setStage(ctx context.Context, keep bool) (*stage, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, errors.New("the demo commits to a repository and needs git in PATH")
	}
	dir, err := os.MkdirTemp("", "bellwether-demo-")
	if err != nil {
		return nil, err
	}
	s := &stage{
		dir: dir, repo: filepath.Join(dir, "fleet"), logFile: filepath.Join(dir, "server.log"),
		died: make(chan error, 1), keep: keep, exited: make(chan struct{}), simDone: make(chan struct{}),
	}
	quickstart, err := fs.Sub(examples.Quickstart, "quickstart")
	if err == nil {
		err = os.CopyFS(s.repo, quickstart)
	}
	if err == nil {
		err = s.git(ctx, "init", "--quiet", "--initial-branch=main")
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

// git runs git in the repository, undisturbed by the person's own settings.
func (s *stage) git(ctx context.Context, args ...string) error {
	_, err := s.gitOutput(ctx, args...)
	return err
}

func (s *stage) gitOutput(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = s.repo
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=Demo", "GIT_AUTHOR_EMAIL=demo@example.com",
		"GIT_COMMITTER_NAME=Demo", "GIT_COMMITTER_EMAIL=demo@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

func (s *stage) commit(ctx context.Context, subject string) error {
	if err := s.git(ctx, "add", "--all"); err != nil {
		return err
	}
	if err := s.git(ctx, "commit", "--quiet", "--message", subject); err != nil {
		return err
	}
	head, err := s.gitOutput(ctx, "rev-parse", "HEAD")
	s.head = head
	return err
}

// edit replaces every old by new in a file of the repository, and commits.
func (s *stage) edit(ctx context.Context, file, old, new, subject string) error {
	path := filepath.Join(s.repo, file)
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	edited := strings.ReplaceAll(string(body), old, new)
	if edited == string(body) {
		return fmt.Errorf("%s does not contain %q", file, old)
	}
	if err := os.WriteFile(path, []byte(edited), 0o644); err != nil {
		return err
	}
	return s.commit(ctx, subject)
}

// start starts the server as a process of its own, and the agents.
func (s *stage) start(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(s.logFile)
	if err != nil {
		return err
	}
	s.server = exec.Command(exe, "serve", "--git", s.repo, "--poll", "1s", "--data-dir", filepath.Join(s.dir, "data"),
		"--listen-opamp", freeOr0(app.DefaultListenOpAMP), "--listen-http", freeOr0(app.DefaultListenHTTP),
		"--listen-admin", freeOr0(app.DefaultListenAdmin))
	s.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, which stops it
	stderr, err := s.server.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.server.Start(); err != nil {
		return err
	}
	listening := make(chan map[string]string, 1)
	go s.readLog(stderr, log, listening)
	select {
	case at := <-listening:
		s.opamp, s.api, s.admin = "ws://"+at["opamp"], "http://"+at["http"], "http://"+at["admin"]
	case err := <-s.died:
		return fmt.Errorf("the server did not start: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
	s.client = &web.Client{Server: s.api}
	return s.startAgents()
}

// freeOr0 returns the address if nobody listens there, else its host with any port.
func freeOr0(address string) string {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = ln.Close()
	return address
}

var listeningLine = regexp.MustCompile(`msg=listening surface=(\w+) addr=(\S+)`)

// readLog copies the server's log to the file, tells where it listens, and reaps
// the process.
func (s *stage) readLog(stderr io.Reader, log io.WriteCloser, listening chan<- map[string]string) {
	defer close(s.exited)
	at, last := map[string]string{}, ""
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		last = lines.Text()
		_, _ = fmt.Fprintln(log, last)
		if m := listeningLine.FindStringSubmatch(last); m != nil {
			if at[m[1]] = m[2]; len(at) == 3 {
				listening <- at
			}
		}
	}
	_ = log.Close()
	err := s.server.Wait()
	if !s.stopping.Load() {
		s.died <- fmt.Errorf("%v: %s", err, last)
	}
}

// startAgents connects the simulated agents; those of a config with an exporter
// nobody has refuse it, as a Collector would.
func (s *stage) startAgents() error {
	refuse, err := sim.ParseFault("contains(carrier_pigeon):refuse")
	if err != nil {
		return err
	}
	s.agents, err = sim.New(sim.FleetConfig{
		URL: s.opamp + "/v1/opamp", Count: demoAgents, Seed: 1, Faults: []sim.Rule{refuse}, Record: true,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopSim = cancel
	go func() {
		defer close(s.simDone)
		_ = s.agents.Run(ctx)
	}()
	return nil
}

// offered returns how many agents were ever given a config.
func (s *stage) offered(h fleet.Hash) int {
	n := 0
	for _, a := range s.agents.Agents() {
		for _, got := range a.Offered {
			if got.Delivery.Config == h {
				n++
				break
			}
		}
	}
	return n
}

// deliveries returns how many offers all agents ever got.
func (s *stage) deliveries() int {
	n := 0
	for _, a := range s.agents.Agents() {
		n += len(a.Offered)
	}
	return n
}

// running returns how many agents run a config, by their own word.
func (s *stage) running(h fleet.Hash) int {
	n := 0
	for _, a := range s.agents.Agents() {
		if a.Running.Config == h {
			n++
		}
	}
	return n
}

// connected waits until the server sees all agents.
func (s *stage) connected(ctx context.Context) error {
	return s.until(ctx, "not all agents are connected", func(ctx context.Context) (bool, error) {
		st, err := s.client.Status(ctx)
		return st.Connected == demoAgents, err
	})
}

// judged waits until the server has accepted or rejected a revision.
func (s *stage) judged(ctx context.Context, revision string) (found web.Revision, err error) {
	err = s.until(ctx, "commit "+short(revision)+" was not looked at", func(ctx context.Context) (bool, error) {
		revisions, err := s.client.Revisions(ctx)
		i := slices.IndexFunc(revisions, func(r web.Revision) bool { return r.ID == revision })
		if i >= 0 {
			found = revisions[i]
		}
		return i >= 0, err
	})
	return found, err
}

// until asks until there is a yes, at most for 20 s.
func (s *stage) until(ctx context.Context, no string, ask func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		yes, err := ask(ctx)
		if err != nil || yes {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", no, ctx.Err())
		}
	}
}

// keepLog keeps the directory for whoever looks for the reason, and says where
// the log is.
func (s *stage) keepLog() string {
	s.keep = true
	return s.logFile
}

// strike stops the agents and the server, and removes the directory.
func (s *stage) strike() {
	if s.stopSim != nil {
		s.stopSim()
		<-s.simDone
	}
	if s.server != nil && s.server.Process != nil {
		s.stopping.Store(true)
		_ = s.server.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(10 * time.Second):
			_ = s.server.Process.Kill()
			<-s.exited
		}
	}
	if !s.keep {
		_ = os.RemoveAll(s.dir)
	}
}
