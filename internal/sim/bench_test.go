package sim_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/opampsrv"
)

// benchAgents is how many agents the benchmarks use; BELLWETHER_BENCH_AGENTS
// overrides it.
func benchAgents() int {
	if n, err := strconv.Atoi(os.Getenv("BELLWETHER_BENCH_AGENTS")); err == nil && n > 0 {
		return n
	}
	return 5000
}

// agentsOnly makes this binary a process of agents only, until its standard
// input ends.
const agentsOnly = "BELLWETHER_TEST_AGENTS_URL"

func TestMain(m *testing.M) {
	url := os.Getenv(agentsOnly)
	if url == "" {
		os.Exit(m.Run())
	}
	f, err := sim.New(sim.FleetConfig{URL: url, Count: benchAgents(), Seed: 1, ApplyTime: -1, ConnectRate: 2000})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin))
		cancel()
	}()
	_ = f.Run(ctx)
	os.Exit(0)
}

// subject is a server under the benchmark.
type subject struct {
	serve func(context.Context, net.Listener) error
	send  func(fleet.Delivery, fleet.Config) error
	done  func(fleet.Delivery) // resets, to wait for this delivery
	all   chan struct{}        // everybody said APPLIED
	ready chan struct{}        // everybody is connected
}

// tally counts agents.
type tally struct {
	mu      sync.Mutex // guards what follows
	want    int
	target  fleet.Delivery
	seen    map[fleet.AgentID]bool
	applied map[fleet.AgentID]bool
	all     chan struct{}
	ready   chan struct{}
}

func newTally(n int) *tally {
	return &tally{
		want: n, seen: map[fleet.AgentID]bool{}, applied: map[fleet.AgentID]bool{},
		all: make(chan struct{}, 1), ready: make(chan struct{}, 1),
	}
}

func (c *tally) aim(d fleet.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target = d
	clear(c.applied)
}

func (c *tally) count(id fleet.AgentID, d fleet.Delivery, s fleet.ApplyStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seen[id] {
		c.seen[id] = true
		if len(c.seen) == c.want {
			c.ready <- struct{}{}
		}
	}
	if s != fleet.Applied || d != c.target || d.IsZero() || c.applied[id] {
		return
	}
	c.applied[id] = true
	if len(c.applied) == c.want {
		c.all <- struct{}{}
	}
}

func floor(b *testing.B, n int) subject {
	c := newTally(n)
	f, err := sim.NewFloor(c.count)
	if err != nil {
		b.Fatal(err)
	}
	return subject{
		serve: f.Serve, done: c.aim, all: c.all, ready: c.ready,
		send: func(d fleet.Delivery, cfg fleet.Config) error { return f.Send(context.Background(), d, cfg) },
	}
}

func ours(b *testing.B, n int) subject {
	c := newTally(n)
	srv, err := opampsrv.New(opampsrv.Config{OnReport: func(r fleet.Report) {
		if r.Remote != nil {
			c.count(r.Agent, r.Remote.Delivery, r.Remote.Status)
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	return subject{
		serve: srv.Serve, done: c.aim, all: c.all, ready: c.ready,
		send: func(d fleet.Delivery, cfg fleet.Config) error {
			for i := range n {
				if err := srv.Offer(sim.ID(1, i), d, cfg); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// up starts the server, and the agents in a process of their own.
func (s subject) up(b *testing.B, n int) (stop func()) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, ln) }()
	agents := exec.Command(os.Args[0], "-test.run=^$")
	agents.Env = append(os.Environ(), agentsOnly+"=ws://"+ln.Addr().String()+"/v1/opamp",
		"BELLWETHER_BENCH_AGENTS="+strconv.Itoa(n))
	agents.Stderr = os.Stderr
	stdin, err := agents.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := agents.Start(); err != nil {
		b.Fatal(err)
	}
	wait(b, s.ready, "agents to connect")
	return func() {
		_ = stdin.Close()
		_ = agents.Wait()
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	}
}

func wait(b *testing.B, c <-chan struct{}, what string) {
	b.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		b.Fatalf("waited a minute for %s", what)
	}
}

func subjects() map[string]func(*testing.B, int) subject {
	return map[string]func(*testing.B, int) subject{"floor": floor, "opampsrv": ours}
}

// BenchmarkApplied is the time from an offer to all agents until all of them
// said APPLIED, with a config of 5 KB.
func BenchmarkApplied(b *testing.B) {
	for name, subject := range subjects() {
		b.Run(name, func(b *testing.B) {
			n := benchAgents()
			s := subject(b, n)
			defer s.up(b, n)()
			i := 0
			for b.Loop() {
				i++
				c := text(fmt.Sprintf("round: %d\n%s", i, strings.Repeat("a: 12345678\n", 420)))
				d := fleet.Delivery{Config: c.Hash}
				s.done(d)
				if err := s.send(d, c); err != nil {
					b.Fatal(err)
				}
				wait(b, s.all, "everybody to apply")
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/rollout")
		})
	}
}

// BenchmarkIdleMemory is what a connected agent that does nothing costs the
// server: heap and stacks, after a config was applied.
func BenchmarkIdleMemory(b *testing.B) {
	for name, subject := range subjects() {
		b.Run(name, func(b *testing.B) {
			n := benchAgents()
			s := subject(b, n)
			before := memory()
			stop := s.up(b, n)
			defer stop()
			c := text(strings.Repeat("a: 12345678\n", 420))
			d := fleet.Delivery{Config: c.Hash}
			s.done(d)
			if err := s.send(d, c); err != nil {
				b.Fatal(err)
			}
			wait(b, s.all, "everybody to apply")
			after := memory()
			for b.Loop() { // nothing is timed
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/agent")
			b.ReportMetric(float64(after.StackInuse-before.StackInuse)/float64(n), "stack-B/agent")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// memory is what is in use once everything that can go has gone: pools need two
// collections, and stacks shrink by half in each.
func memory() (m runtime.MemStats) {
	for range 6 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m
}
