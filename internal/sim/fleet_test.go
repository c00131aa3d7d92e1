package sim_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/opampsrv"
)

// world is a server and a fleet in a bubble, and what the server believes.
type world struct {
	t      *testing.T
	srv    *opampsrv.Server
	agents *sim.Fleet
	stop   func() // the server
	pipe   *swap

	mu      sync.Mutex // guards what follows
	known   map[fleet.AgentID]fleet.Agent
	reports int
}

// swap is a network address at which servers come and go.
type swap struct {
	mu sync.Mutex // guards at
	at *sim.Pipe
}

func newWorld(t *testing.T, cfg sim.FleetConfig) *world {
	w := &world{t: t, pipe: &swap{}, known: map[fleet.AgentID]fleet.Agent{}}
	cfg.URL = "ws://pipe/v1/opamp"
	cfg.Dial = w.pipe.dial
	cfg.Record = true
	agents, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.agents = agents
	w.serve()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agents.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the fleet ended with %v", err)
		}
		w.stop()
	})
	return w
}

// serve starts a server, with no memory of an earlier one.
func (w *world) serve() {
	srv, err := opampsrv.New(opampsrv.Config{OnReport: w.report})
	if err != nil {
		w.t.Fatal(err)
	}
	ln := sim.NewPipe()
	w.pipe.set(ln)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	w.srv = srv
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the server ended with %v", err)
		}
	})
}

func (s *swap) set(p *sim.Pipe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = p
}

func (s *swap) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	p := s.at
	s.mu.Unlock()
	return p.Dial(ctx, network, addr)
}

func (w *world) report(r fleet.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports++
	w.known[r.Agent] = fleet.Fold(w.known[r.Agent], r)
}

func (w *world) agent(i int) fleet.Agent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[sim.ID(1, i)]
}

func (w *world) offer(c fleet.Config) fleet.Delivery {
	w.t.Helper()
	d := fleet.Delivery{Config: c.Hash}
	for _, v := range w.agents.Agents() {
		if err := w.srv.Offer(v.ID, d, c); err != nil {
			w.t.Fatalf("offer to %s: %v", v.ID, err)
		}
	}
	return d
}

func text(body string) fleet.Config {
	return fleet.NewConfig(fleet.File{Name: "collector.yaml", ContentType: "text/yaml", Body: []byte(body)})
}

// settle lets d pass and everything that is ready happen.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAgentsApplyWhatTheyAreOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sim.FleetConfig{Count: 20, Seed: 1})
		settle(time.Second)
		if got := w.agents.Counts(); got.Connected != 20 || got.Healthy != 20 || got.Unset != 20 {
			t.Fatalf("after a second: %+v", got)
		}
		d := w.offer(text("a: 1"))
		settle(10 * time.Millisecond)
		if a := w.agent(3); a.Status != fleet.Applying || a.Delivery != d || a.Healthy {
			t.Errorf("right after the offer: %+v", a)
		}
		settle(time.Second)
		for i := range 20 {
			if a := w.agent(i); !a.Good(d) || a.Labels["service.name"] != "otelcol-edge" {
				t.Errorf("agent %d: %+v", i, a)
			}
		}
		before := w.reports
		w.offer(text("a: 1"))
		settle(time.Second)
		if w.reports != before {
			t.Errorf("the same hash made %d reports, want silence", w.reports-before)
		}
	})
}

func TestAServerThatRestartsLearnsTheFleetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sim.FleetConfig{Count: 5, Seed: 1})
		settle(time.Second)
		d := w.offer(text("a: 1"))
		settle(time.Second)
		w.stop()
		settle(5 * time.Second)
		w.mu.Lock()
		clear(w.known)
		w.mu.Unlock()
		w.serve()
		settle(10 * time.Second)
		for i := range 5 {
			if a := w.agent(i); !a.Good(d) || a.Labels["ring"] == "" {
				t.Errorf("agent %d: %+v", i, a)
			}
		}
		for _, v := range w.agents.Agents() {
			if len(v.Offered) != 1 {
				t.Errorf("agent %s was offered %v", v.ID, v.Offered)
			}
		}
	})
}

func TestFaultsDoWhatTheySay(t *testing.T) {
	good, bad := text("good: 1"), text("bad: 1")
	for _, tc := range []struct {
		rule  string
		after time.Duration // of the bad offer
		want  func(a fleet.Agent, good, bad fleet.Delivery) bool
	}{
		{"contains(bad):refuse", time.Second, func(a fleet.Agent, _, bad fleet.Delivery) bool {
			return a.Status == fleet.Failed && a.Delivery == bad && a.Healthy && a.Error != ""
		}},
		{"contains(bad):sick=10s", 5 * time.Second, func(a fleet.Agent, _, bad fleet.Delivery) bool { return a.Good(bad) }},
		{"contains(bad):sick=10s", 15 * time.Second, func(a fleet.Agent, _, bad fleet.Delivery) bool {
			return a.Runs(bad) && !a.Healthy && a.HealthError != ""
		}},
		{"contains(bad):slow=2m", time.Minute, func(a fleet.Agent, _, bad fleet.Delivery) bool {
			return a.Status == fleet.Applying && a.Delivery == bad
		}},
		{"contains(bad):slow=2m", 3 * time.Minute, func(a fleet.Agent, _, bad fleet.Delivery) bool { return a.Good(bad) }},
		{"contains(bad):flapping=10s", 15 * time.Second, func(a fleet.Agent, _, bad fleet.Delivery) bool { return !a.Good(bad) }},
		{"contains(bad):flapping=10s", 25 * time.Second, func(a fleet.Agent, _, bad fleet.Delivery) bool { return a.Good(bad) }},
		{"contains(bad):offline", time.Hour, func(a fleet.Agent, good, _ fleet.Delivery) bool {
			return !a.Connected && a.Delivery == good
		}},
		{"contains(bad):offline=20s", 10 * time.Second, func(a fleet.Agent, _, _ fleet.Delivery) bool { return !a.Connected }},
		{"contains(bad):offline=20s", 30 * time.Second, func(a fleet.Agent, _, bad fleet.Delivery) bool { return a.Good(bad) }},
		{"contains(bad):self-revert=10s", 5 * time.Second, func(a fleet.Agent, _, bad fleet.Delivery) bool { return a.Good(bad) }},
		{"contains(bad):self-revert=10s", 15 * time.Second, func(a fleet.Agent, good, _ fleet.Delivery) bool { return a.Good(good) }},
	} {
		t.Run(tc.rule+"/"+tc.after.String(), func(t *testing.T) {
			rule, err := sim.ParseFault(tc.rule)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sim.FleetConfig{Count: 1, Seed: 1, Faults: []sim.Rule{rule}})
				settle(time.Second)
				g := w.offer(good)
				settle(time.Second)
				b := w.offer(bad)
				settle(tc.after)
				if a := w.agent(0); !tc.want(a, g, b) {
					t.Errorf("after %v: %+v", tc.after, a)
				}
				if v := w.agents.Agents()[0]; len(v.Offered) != 2 {
					t.Errorf("offered %v, want both once", v.Offered)
				}
			})
		})
	}
}
