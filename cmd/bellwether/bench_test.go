package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/app"
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/rollout"
)

const benchAgents = 5000

const benchManifest = `apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: edge}
spec:
  selector: {matchLabels: {service.name: otelcol-edge}}
  config: [edge.yaml]
  waves: [{name: all}]
  maxUnavailable: 100%
  minHealthyTime: 0s
`

// BenchmarkCommitToApplied measures the way from a commit to the APPLIED of all of
// 5,000 simulated agents, with one wave and no soak: git, reconcile, fsync, wire.
// Its floor, in the same run and with the same agents, is a bare opamp-go server
// that loops over its connections and sends.
func BenchmarkCommitToApplied(b *testing.B) {
	b.Run("floor", benchFloor)
	b.Run("bellwether", benchServer)
}

func benchFloor(b *testing.B) {
	bare, err := sim.NewFloor(func(fleet.AgentID, fleet.Delivery, fleet.ApplyStatus) {})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- bare.Serve(ctx, ln) }()
	b.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	agents := benchFleet(b, ln.Addr().String())
	agents.connected(b)
	spoken(bare)
	n := 0
	for b.Loop() {
		n++
		c := fleet.NewConfig(fleet.File{ContentType: "text/yaml", Body: []byte(benchConfig(n))})
		if err := bare.Send(b.Context(), fleet.Delivery{Config: c.Hash}, c); err != nil {
			b.Fatal(err)
		}
		benchApplied(b, agents, c.Hash)
	}
}

func benchServer(b *testing.B) {
	dir := b.TempDir()
	repo := filepath.Join(dir, "fleet")
	benchCommit(b, repo, 0)
	running, err := app.Start(b.Context(), app.Config{
		Git: repo, DataDir: filepath.Join(dir, "data"), Poll: time.Second,
		ListenOpAMP: "127.0.0.1:0", ListenHTTP: "127.0.0.1:0", ListenAdmin: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- running.Run(ctx) }()
	agents := benchFleet(b, running.Addr(app.OpAMP))
	client := &web.Client{Server: "http://" + running.Addr(app.HTTP)}
	first := benchWait(b, client, func(r web.Rollout) bool { return r.Phase == rollout.Completed && r.Agents == benchAgents })
	benchApplied(b, agents, first.Target)

	n := 0
	for b.Loop() {
		n++
		b.StopTimer()
		target := benchTarget(n)
		benchStage(b, repo, n)
		b.StartTimer()
		benchGit(b, repo, "commit", "--quiet", "--message", strconv.Itoa(n))
		benchApplied(b, agents, target)
		b.StopTimer()
		benchWait(b, client, func(r web.Rollout) bool { return r.Phase == rollout.Completed && r.Target == target })
		b.StartTimer()
	}
	cancel()
	if err := <-stopped; err != nil {
		b.Fatal(err)
	}
}

func benchConfig(n int) string {
	return fmt.Sprintf("receivers: {nop: {}}\nexporters: {debug: {sampling_initial: %d}}\nservice: {pipelines: {traces: {receivers: [nop], exporters: [debug]}}}\n", n+1)
}

// benchTarget is the content hash that a commit will have.
func benchTarget(n int) fleet.Hash {
	return fleet.NewConfig(fleet.File{ContentType: "text/yaml", Body: []byte(benchConfig(n))}).Hash
}

// benchCommit makes a commit with the n-th config, the first with the repository.
func benchCommit(b *testing.B, repo string, n int) {
	b.Helper()
	if n == 0 {
		if err := os.Mkdir(repo, 0o755); err != nil {
			b.Fatal(err)
		}
		benchGit(b, repo, "init", "--quiet", "--initial-branch=main")
		if err := os.WriteFile(filepath.Join(repo, "rollout.yaml"), []byte(benchManifest), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	benchStage(b, repo, n)
	benchGit(b, repo, "commit", "--quiet", "--message", strconv.Itoa(n))
}

// benchStage writes the n-th config and adds it to the index.
func benchStage(b *testing.B, repo string, n int) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(repo, "edge.yaml"), []byte(benchConfig(n)), 0o644); err != nil {
		b.Fatal(err)
	}
	benchGit(b, repo, "add", "--all")
}

func benchGit(b *testing.B, repo string, args ...string) {
	b.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = repo
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=b", "GIT_AUTHOR_EMAIL=b@example.com", "GIT_COMMITTER_NAME=b", "GIT_COMMITTER_EMAIL=b@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// flock is simulated agents, and how many of them ever said APPLIED of a config.
type flock struct {
	mu      sync.Mutex // guards applied
	applied map[fleet.Hash]int
	changed chan struct{} // capacity 1
	here    atomic.Int64  // connections ever made
	all     chan struct{} // closed once there are as many as agents
}

func (f *flock) connected(b *testing.B) {
	b.Helper()
	select {
	case <-f.all:
	case <-time.After(time.Minute):
		b.Fatalf("%d of %d agents are connected after a minute", f.here.Load(), benchAgents)
	}
}

func (f *flock) event(e sim.Event) {
	if e.Kind == sim.Connected && f.here.Add(1) == benchAgents {
		close(f.all)
	}
	if e.Kind != sim.Reported || e.Status != fleet.Applied {
		return
	}
	f.mu.Lock()
	f.applied[e.Delivery.Config]++
	all := f.applied[e.Delivery.Config] == benchAgents
	f.mu.Unlock()
	if all {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
}

func (f *flock) count(h fleet.Hash) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied[h]
}

func benchFleet(b *testing.B, addr string) *flock {
	b.Helper()
	f := &flock{applied: map[fleet.Hash]int{}, changed: make(chan struct{}, 1), all: make(chan struct{})}
	agents, err := sim.New(sim.FleetConfig{
		URL: "ws://" + addr + "/v1/opamp", Count: benchAgents, Seed: 1, ApplyTime: -1, ConnectRate: 2000, OnEvent: f.event,
	})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer close(done); _ = agents.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	return f
}

// benchApplied waits until every agent has said APPLIED of h.
func benchApplied(b *testing.B, f *flock, h fleet.Hash) {
	b.Helper()
	deadline := time.After(time.Minute)
	for f.count(h) < benchAgents {
		select {
		case <-f.changed:
		case <-deadline:
			b.Fatalf("%d of %d agents run it after a minute", f.count(h), benchAgents)
		}
	}
}

func benchWait(b *testing.B, client *web.Client, done func(web.Rollout) bool) web.Rollout {
	b.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	for {
		r, err := client.Rollout(b.Context(), "edge")
		if err == nil && done(r) {
			return r
		}
		select {
		case <-ticker.C:
		case <-deadline:
			b.Fatalf("not within a minute: %s %v", sentence(r), err)
		}
	}
}

// BenchmarkIdleAgentMemory measures what one idle connected agent costs a server
// process, everything included: the growth of its resident memory from no agent to
// 5,000, after a config reached all of them. The floor is the bare server.
func BenchmarkIdleAgentMemory(b *testing.B) {
	b.Run("floor", func(b *testing.B) {
		pid, at := benchProcess(b, 1, "BELLWETHER_TEST_FLOOR=1")
		before := resident(b, pid)
		agents := benchFleet(b, at["opamp"])
		benchApplied(b, agents, benchTarget(0))
		reportMemory(b, resident(b, pid)-before)
	})
	b.Run("bellwether", func(b *testing.B) {
		dir := b.TempDir()
		repo := filepath.Join(dir, "fleet")
		benchCommit(b, repo, 0)
		pid, at := benchProcess(b, 3, "BELLWETHER_TEST_MAIN=1", "serve", "--git", repo, "--data-dir", filepath.Join(dir, "data"),
			"--listen-opamp", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0")
		before := resident(b, pid)
		agents := benchFleet(b, at["opamp"])
		r := benchWait(b, &web.Client{Server: "http://" + at["http"]}, func(r web.Rollout) bool {
			return r.Phase == rollout.Completed && r.Agents == benchAgents
		})
		benchApplied(b, agents, r.Target)
		reportMemory(b, resident(b, pid)-before)
	})
}

func reportMemory(b *testing.B, grown int) {
	for b.Loop() { // nothing is timed
	}
	b.ReportMetric(float64(grown)/benchAgents, "rss-B/agent")
	b.ReportMetric(0, "ns/op")
}

// benchProcess starts this binary as a server and returns once it listens on so
// many surfaces.
func benchProcess(b *testing.B, surfaces int, env string, args ...string) (pid int, at map[string]string) {
	b.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), env)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	at = map[string]string{}
	lines := bufio.NewScanner(stderr)
	for len(at) < surfaces && lines.Scan() {
		if m := listeningLine.FindStringSubmatch(lines.Text()); m != nil {
			at[m[1]] = m[2]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return cmd.Process.Pid, at
}

// spoken waits until every agent has said something to the bare server.
func spoken(bare *sim.Floor) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for bare.Connections() < benchAgents {
		<-ticker.C
	}
}

// floorMain is the bare server as a process: once all agents are connected it
// sends them the first config.
func floorMain() error {
	bare, err := sim.NewFloor(func(fleet.AgentID, fleet.Delivery, fleet.ApplyStatus) {})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "msg=listening surface=opamp addr=%s\n", ln.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		spoken(bare)
		c := fleet.NewConfig(fleet.File{ContentType: "text/yaml", Body: []byte(benchConfig(0))})
		if err := bare.Send(ctx, fleet.Delivery{Config: c.Hash}, c); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return bare.Serve(ctx, ln)
}

// resident returns the resident memory of a process in bytes.
func resident(b *testing.B, pid int) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Skipf("no /proc here: %v", err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}
