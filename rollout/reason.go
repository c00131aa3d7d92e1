package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// reason says in one sentence what is going on or, when nothing moves, why not
// and what would make it move. Decisions never read it.
func (t *tick) reason() string {
	if t.in.Target != t.s.Target {
		return "A new commit waits: agents are still coming back after a restart of ours."
	}
	switch t.s.Phase {
	case Progressing:
		return t.progressReason()
	case Paused:
		return sentence(t.s.Failure) + " Everybody keeps what they have; a new commit, retry or rollback goes on."
	case RollingBack:
		return t.homeReason()
	case RolledBack:
		return sentence(t.s.Failure) + " Agents are back on " + t.s.StableDelivery().Short() +
			"; the target is not tried again without a new commit or retry."
	case Completed, Superseded:
	}
	switch t.s.Hold {
	case UserPaused:
		return "Completed; paused: agents that join or drift are not touched until resume."
	case ControllerRestart:
		return "Completed; agents are coming back after a restart of ours."
	default:
		return "Completed: " + t.s.TargetDelivery().Short() + " is what every agent should run."
	}
}

func (t *tick) progressReason() string {
	w, n := t.s.Waves[t.s.Wave], &t.waves[t.s.Wave]
	switch t.s.Hold {
	case UserPaused:
		if t.spec.Paused {
			return "Paused in git: set spec.paused to false to go on."
		}
		return "Paused by a person: resume goes on."
	case ControllerRestart:
		return "We were away: agents get time to come back before anybody is judged or offered anything."
	case FleetUnstable:
		return fmt.Sprintf("%d of %d agents went away without being touched: the network looks ill, so nobody is judged until they are back.", t.gone, t.base)
	case Baking:
		over := t.s.BakeAt.Add(w.Bake)
		return fmt.Sprintf("Wave %s is baking until %s; promote skips the rest of it.", w.Name, over.Format(time.TimeOnly))
	case NoReachableAgents:
		switch {
		case t.members() == 0 && !slices.ContainsFunc(t.in.Agents, func(a *fleet.Agent) bool { return a.Connected }):
			return "No agent of this rollout is connected: the waves are made up when agents connect."
		case t.members() == 0:
			return "Agents are still arriving: the waves are made up once nobody new has come for a moment."
		}
		return fmt.Sprintf("No agent up to wave %s can be reached: it goes on when one comes back.", w.Name)
	case NoEvidence:
		return fmt.Sprintf("No agent up to wave %s has proven the target: it fails at the progress deadline unless one does.", w.Name)
	case BudgetExhausted:
		return fmt.Sprintf("As many agents are disturbed as maxUnavailable allows (%d), and none is about to recover: it goes on when one does or leaves.", t.disturbed)
	default:
	}
	text := fmt.Sprintf("Wave %s: %d of %d settled, %d in flight", w.Name, n.settled(), n.members(), n.n[InFlight])
	if n.n[Deferred] > 0 {
		text += fmt.Sprintf(", %d offline", n.n[Deferred])
	}
	if n.bad > 0 {
		text += fmt.Sprintf(", %d bad again", n.bad)
	}
	return text + "."
}

func (t *tick) homeReason() string {
	to := t.s.StableDelivery().Short()
	switch {
	case t.s.Hold == BudgetExhausted:
		return fmt.Sprintf("Going back to %s: as many agents are disturbed as maxUnavailable allows (%d); it goes on when one recovers or leaves.", to, t.disturbed)
	case t.s.Hold == ControllerRestart:
		return fmt.Sprintf("Going back to %s once agents have come back after a restart of ours.", to)
	case t.s.Target == t.s.Stable:
		return fmt.Sprintf("The commit asks for %s again, which was stable: agents go back to it without waves.", to)
	}
	return sentence(t.s.Failure) + " Agents go back to " + to + "."
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

func agents(n int) string {
	if n == 1 {
		return "1 agent"
	}
	return fmt.Sprintf("%d agents", n)
}
