//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// binaries says where the programs under test are.
type binaries struct {
	bellwether, supervisor, collector string
}

// agentsDir is where test/agents/build.sh leaves its binaries.
const agentsDir = "../agents/bin"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// Signals that are caught here are at their default in the processes we start;
	// ignored ones would stay ignored, and a Supervisor cannot stop its Collector
	// without SIGINT.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s := <-interrupted
		fmt.Fprintln(os.Stderr, "e2e: killing every process after", s)
		running.killAll()
		os.Exit(130)
	}()

	dir, err := os.MkdirTemp("", "bellwether-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 2
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 2
	}
	defer running.killAll()
	return m.Run()
}

// programs returns where the programs are, once [build] has made them.
func programs(t *testing.T) binaries {
	t.Helper()
	agents, err := filepath.Abs(agentsDir)
	if err != nil {
		t.Fatal(err)
	}
	return binaries{
		bellwether: os.Getenv(bellwetherVar),
		supervisor: filepath.Join(agents, "opampsupervisor"),
		collector:  filepath.Join(agents, "otelcol"),
	}
}

// bellwetherVar names the environment variable that points at the bellwether
// under test. Set it to test a binary that was built elsewhere.
const bellwetherVar = "BELLWETHER_E2E_BINARY"

// build makes sure that the agents are there and builds ./cmd/bellwether into dir,
// with the race detector if the tests have it.
func build(dir string) error {
	for _, name := range []string{"otelcol", "opampsupervisor"} {
		if _, err := os.Stat(filepath.Join(agentsDir, name)); err != nil {
			return fmt.Errorf("test/agents/bin/%s is missing: run `make e2e`, which builds the agents first", name)
		}
	}
	if os.Getenv(bellwetherVar) != "" {
		return nil
	}
	out := filepath.Join(dir, "bellwether")
	args := []string{"build", "-o", out}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(context.Background(), "go", append(args, "../../cmd/bellwether")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building ./cmd/bellwether: %w", err)
	}
	return os.Setenv(bellwetherVar, out)
}

// running is every process group we started that has not ended, so that none
// outlives a test run that is interrupted.
var running groups

// groups is a set of process groups. The mutex guards pids.
type groups struct {
	mu   sync.Mutex
	pids map[int]bool
}

func (g *groups) add(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pids == nil {
		g.pids = map[int]bool{}
	}
	g.pids[pid] = true
}

// end kills what is left of a group and reports whether anything was.
func (g *groups) end(pid int) (left bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pids, pid)
	return kill(pid)
}

func (g *groups) killAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for pid := range g.pids {
		kill(pid)
	}
	clear(g.pids)
}

func kill(group int) bool { return !errors.Is(syscall.Kill(-group, syscall.SIGKILL), syscall.ESRCH) }
