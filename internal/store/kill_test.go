package store_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/store"
	"github.com/bellwether-opamp/bellwether/internal/store/storetest"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// victimEnv makes the test binary a victim of TestKill: it names the directory.
const victimEnv = "BELLWETHER_STORE_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		if err := victim(context.Background(), dir, os.Stdout); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// script is the series of states that the victims commit, one after the other:
// state n is a function of n, whoever computes it.
type script struct {
	n    int
	edge rollout.State
}

func newScript() *script { return &script{edge: storetest.Rollout("edge", 400)} }

// to goes on to state n.
func (s *script) to(n int) reconciler.State {
	for s.n < n {
		s.n++
		at := storetest.Epoch().Add(time.Duration(s.n) * time.Second)
		s.edge = storetest.Offered(s.edge, at, s.n*7%400, s.n*13%450, s.n*31%400)
		s.edge.Reason, s.edge.Target = strconv.Itoa(s.n), s.config().Hash
		if s.n%20 == 0 { // a transition
			s.edge.Phase = rollout.Phase(s.n / 20 % 5)
		}
	}
	if s.n == 0 {
		return reconciler.State{}
	}
	state := storetest.State(storetest.Epoch().Add(time.Duration(s.n)*time.Second), s.edge)
	if s.n%10 < 5 { // comes and goes
		state.Rollouts = append(state.Rollouts, storetest.Rollout("guest", s.n%7*100))
	}
	return state
}

// config is what the state's target names.
func (s *script) config() fleet.Config { return storetest.Config(s.n/5, 2000+s.n/5) }

// victim says what it finds, then commits one state after the other, and says each
// time when it is told that it is durable.
func victim(ctx context.Context, dir string, out io.Writer) error {
	s, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		return err
	}
	found, err := s.Load(ctx)
	if err != nil {
		return err
	}
	script := newScript()
	n := 0
	if edge, ok := found.Rollout("edge"); ok {
		if n, err = strconv.Atoi(edge.Reason); err != nil {
			return err
		}
	}
	if diff := storetest.Diff(script.to(n), found); diff != "" {
		return fmt.Errorf("state %d is torn: %s", n, strings.Join(strings.Fields(diff), " "))
	}
	if n > 0 {
		if _, err := s.Config(ctx, script.config().Hash); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "found", n)
	term, err := s.Campaign(ctx)
	if err != nil {
		return err
	}
	for {
		n++
		next := script.to(n)
		if err := s.PutConfig(ctx, script.config()); err != nil {
			return err
		}
		if err := term.Commit(ctx, next); err != nil {
			return err
		}
		fmt.Fprintln(out, "acked", n)
	}
}

// TestKill kills a process with SIGKILL 60 times at random moments, some while it
// opens the store and most while it commits. Whatever was acknowledged is there,
// whatever is there is whole, and nothing is there that was not tried.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	acked := 0
	const kills = 60
	for i := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimEnv+"="+dir)
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var killer *time.Timer
		kill := func() { _ = cmd.Process.Kill() } // it may have ended by itself: then it said why
		if i%6 == 0 {
			killer = time.AfterFunc(time.Duration(random.IntN(120))*time.Millisecond, kill)
		}
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			verb, rest, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.Atoi(rest)
			switch {
			case err != nil:
				t.Errorf("kill %d, acknowledged %d: %s", i, acked, lines.Text())
			case verb == "found" && (n < acked || n > acked+1):
				t.Errorf("kill %d: found state %d, acknowledged was %d", i, n, acked)
			case verb == "found":
				if acked = n; killer == nil {
					killer = time.AfterFunc(time.Duration(random.IntN(100_000))*time.Microsecond, kill)
				}
			case verb == "acked":
				acked = n
			}
		}
		_ = cmd.Wait() // it was killed
		if killer != nil {
			killer.Stop()
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, %d commits", kills, acked)
	if acked < kills/2 {
		t.Errorf("only %d commits: the test hits nothing", acked)
	}
	s := open(t, dir)
	defer s.Close()
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
}
