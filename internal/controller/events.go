package controller

import (
	"context"
	"log/slog"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// Entry is one line of the journal: what happened, for people and for later.
type Entry struct {
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"`
	Rollout  string    `json:"rollout,omitempty"`
	Wave     string    `json:"wave,omitempty"`
	Agent    string    `json:"agent,omitempty"`
	Phase    string    `json:"phase,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Config   string    `json:"config,omitempty"`
	Revision string    `json:"revision,omitempty"`
	Count    int       `json:"count,omitempty"`
	Text     string    `json:"text,omitempty"`
}

func entryOf(e rollout.Event) Entry {
	entry := Entry{
		At: e.At, Kind: e.Kind.String(), Rollout: e.Rollout, Wave: e.Wave, Config: e.Target.String(),
		Count: e.Count, Reason: reasonOf(e), Text: e.Text,
	}
	if e.Agent != (fleet.AgentID{}) {
		entry.Agent = e.Agent.String()
	}
	if e.Kind == rollout.EventPhase {
		entry.Phase = e.Phase.String()
	}
	return entry
}

// reasonOf is the one word that explains an event, if it has one.
func reasonOf(e rollout.Event) string {
	switch e.Kind {
	case rollout.EventHold:
		return e.Hold.String()
	case rollout.EventAgentFailed:
		return e.Failure.String()
	case rollout.EventOffered:
		return e.Offer.String()
	}
	return ""
}

// logEvent writes one line for each decision. What happens to single agents in
// great numbers is for Debug; an agent that failed is for everybody.
func (c *Controller) logEvent(e rollout.Event) {
	level, message := slog.LevelInfo, ""
	switch e.Kind {
	case rollout.EventStarted:
		message = "rollout started"
	case rollout.EventSuperseded:
		message = "rollout superseded"
	case rollout.EventWaveStarted:
		message = "wave started"
	case rollout.EventWaveDone:
		message = "wave done"
	case rollout.EventOffered:
		message = "config offered"
	case rollout.EventAgentOK:
		level, message = slog.LevelDebug, "agent settled"
	case rollout.EventAgentDeferred:
		level, message = slog.LevelDebug, "agent deferred"
	case rollout.EventAgentFailed:
		level, message = slog.LevelWarn, "agent failed"
	case rollout.EventPhase:
		message = "phase changed"
		if e.Phase == rollout.Paused || e.Phase == rollout.RolledBack {
			level = slog.LevelError
		}
	case rollout.EventHold:
		message = "hold changed"
	case rollout.EventIntent:
		message = "intent answered"
	}
	c.log.Log(context.Background(), level, message, eventAttrs(e)...) //nolint:sloglint // one of the constants above
}

func eventAttrs(e rollout.Event) []any {
	attrs := []any{"rollout", e.Rollout}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, key, value)
		}
	}
	add("wave", e.Wave)
	if e.Kind == rollout.EventPhase {
		add("phase", e.Phase.String())
	}
	add("reason", reasonOf(e))
	add("config", e.Target.Short())
	if e.Agent != (fleet.AgentID{}) {
		add("agent", e.Agent.String())
	}
	if e.Count != 0 {
		attrs = append(attrs, "count", e.Count)
	}
	if e.Took != 0 {
		attrs = append(attrs, "took", e.Took)
	}
	add("text", e.Text)
	return attrs
}
