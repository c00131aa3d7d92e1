package web

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// Revision is a commit in the API.
type Revision struct {
	ID       string     `json:"id"`
	Branch   string     `json:"branch,omitempty"`
	Author   string     `json:"author,omitempty"`
	Subject  string     `json:"subject,omitempty"`
	Time     time.Time  `json:"time,omitzero"`
	State    string     `json:"state,omitempty" enum:"accepted,rejected"`
	SeenAt   *time.Time `json:"seen_at,omitempty"`
	Problems []string   `json:"problems,omitempty" doc:"file:line:col: rule: message"`
}

// Source is the state of the fleet repository in the API.
type Source struct {
	URL         string    `json:"url"`
	Branch      string    `json:"branch,omitempty"`
	Head        string    `json:"head,omitempty" doc:"newest revision fetched whole, checked or not"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	Failures    int       `json:"failures" doc:"in a row"`
	Reason      string    `json:"reason,omitempty"`
	Message     string    `json:"message,omitempty"`
	NextPoll    time.Time `json:"next_poll,omitzero"`
}

// Status is the whole fleet in a few numbers.
type Status struct {
	Version     string    `json:"version"`
	Revision    *Revision `json:"revision,omitempty" doc:"in force"`
	Source      Source    `json:"source"`
	Problem     string    `json:"problem,omitempty" doc:"why nothing can be made durable; nothing is offered meanwhile"`
	Agents      int       `json:"agents"`
	Connected   int       `json:"connected"`
	Unmatched   int       `json:"unmatched" doc:"no rollout selects them"`
	Conflicting int       `json:"conflicting" doc:"two rollouts of one priority select them: nobody moves them"`
	Rollouts    int       `json:"rollouts"`
}

// Rollout is one rollout in the API.
type Rollout struct {
	Name           string         `json:"name"`
	Phase          rollout.Phase  `json:"phase" enum:"Completed,Progressing,Paused,RollingBack,RolledBack"`
	Hold           rollout.Hold   `json:"hold,omitempty"`
	Reason         string         `json:"reason,omitempty" doc:"one sentence: what is going on, or why nothing moves and what would make it move"`
	Target         fleet.Hash     `json:"target" doc:"config hash being rolled out, or in force"`
	Revision       string         `json:"revision,omitempty" doc:"the first commit that had the target"`
	Subject        string         `json:"subject,omitempty"`
	Attempt        uint32         `json:"attempt"`
	Stable         fleet.Hash     `json:"stable,omitzero" doc:"last config that completed"`
	StableRevision string         `json:"stable_revision,omitempty"`
	Blocked        fleet.Hash     `json:"blocked,omitzero" doc:"config that failed and is not offered again by itself"`
	UserPaused     bool           `json:"user_paused,omitempty"`
	Orphaned       bool           `json:"orphaned,omitempty" doc:"git no longer declares it"`
	Wave           int            `json:"wave" doc:"index of the current wave"`
	Waves          []Wave         `json:"waves"`
	Disturbed      int            `json:"disturbed"`
	Budget         int            `json:"budget"`
	Agents         int            `json:"agents"`
	States         map[string]int `json:"states"`
	Syncs          map[string]int `json:"syncs"`
	Failing        []Failing      `json:"failing,omitempty" doc:"the first few agents that failed"`
	StartedAt      time.Time      `json:"started_at,omitzero"`
	PhaseAt        time.Time      `json:"phase_at,omitzero"`
	ProgressAt     time.Time      `json:"progress_at,omitzero"`
	WakeAt         time.Time      `json:"wake_at,omitzero" doc:"the next moment at which something may change by itself"`
}

// Wave is one wave of an attempt in the API.
type Wave struct {
	Name    string         `json:"name"`
	Size    int            `json:"size"`
	Bake    string         `json:"bake,omitempty"`
	Results map[string]int `json:"results"`
}

// Failing is an agent that made its wave suffer.
type Failing struct {
	Agent   fleet.AgentID   `json:"agent"`
	Wave    string          `json:"wave"`
	Failure rollout.Failure `json:"failure"`
	Message string          `json:"message,omitempty"`
}

// Agent is one agent in the API.
type Agent struct {
	ID            fleet.AgentID     `json:"id"`
	Labels        map[string]string `json:"labels"`
	Connected     bool              `json:"connected"`
	Healthy       bool              `json:"healthy"`
	HealthError   string            `json:"health_error,omitempty"`
	State         string            `json:"state" enum:"healthy,unhealthy,offline,unobservable"`
	Rollout       string            `json:"rollout,omitempty"`
	Wave          string            `json:"wave,omitempty"`
	Result        string            `json:"result,omitempty"`
	Failure       string            `json:"failure,omitempty"`
	Sync          string            `json:"sync,omitempty"`
	Assigned      string            `json:"assigned,omitempty" doc:"config hash it should run, with #attempt after a retry"`
	Delivery      string            `json:"delivery,omitempty" doc:"config hash it last spoke of"`
	Status        fleet.ApplyStatus `json:"status" enum:"unset,applied,applying,failed"`
	Error         string            `json:"error,omitempty"`
	LastSeen      time.Time         `json:"last_seen,omitzero"`
	Since         time.Time         `json:"since,omitzero" doc:"when it last connected or went"`
	EffectiveSize int               `json:"effective_config_bytes,omitempty"`
}

func revisionOf(r fleet.Revision) Revision {
	return Revision{ID: r.ID, Branch: r.Branch, Author: r.Author, Subject: r.Subject, Time: r.Time}
}

func revisionStatusOf(r reconciler.RevisionStatus) Revision {
	out := revisionOf(r.Revision)
	out.State, out.SeenAt, out.Problems = "rejected", &r.SeenAt, r.Problems
	if r.Accepted {
		out.State = "accepted"
	}
	return out
}

func sourceOf(s fleet.SourceStatus) Source {
	return Source{
		URL: s.URL, Branch: s.Branch, Head: s.Head.ID, LastSuccess: s.LastSuccess, Failures: s.Failures,
		Reason: s.Reason, Message: s.Message, NextPoll: s.NextPoll,
	}
}

func statusOf(o Overview, version string) Status {
	s := Status{
		Version: version, Source: sourceOf(o.Source), Problem: o.Problem,
		Agents: o.Status.Agents, Connected: o.Status.Connected, Unmatched: o.Status.Unmatched,
		Conflicting: o.Status.Conflicting, Rollouts: len(o.Status.Rollouts),
	}
	if o.Status.Revision.ID != "" {
		r := revisionOf(o.Status.Revision)
		s.Revision = &r
	}
	return s
}

func rolloutOf(r reconciler.RolloutStatus) Rollout {
	out := Rollout{
		Name: r.Name, Phase: r.Phase, Hold: r.Hold, Reason: r.Reason,
		Target: r.Target, Revision: r.TargetRevision.ID, Subject: r.TargetRevision.Subject, Attempt: r.Attempt,
		Stable: r.Stable, StableRevision: r.StableRevision.ID, Blocked: r.Blocked,
		UserPaused: r.UserPaused, Orphaned: r.Orphaned, Wave: r.Wave, Waves: []Wave{},
		Disturbed: r.Disturbed, Budget: r.Budget, Agents: r.Agents,
		States: words(r.States), Syncs: words(r.Syncs),
		StartedAt: r.StartedAt, PhaseAt: r.PhaseAt, ProgressAt: r.ProgressAt, WakeAt: r.WakeAt,
	}
	for _, w := range r.Waves {
		wave := Wave{Name: w.Name, Size: w.Members, Results: words(w.Results)}
		if w.Bake > 0 {
			wave.Bake = w.Bake.String()
		}
		out.Waves = append(out.Waves, wave)
	}
	for _, f := range r.Failing {
		out.Failing = append(out.Failing, Failing(f))
	}
	return out
}

// words turns counts by enum into counts by the enum's words.
func words[K interface {
	comparable
	String() string
}](counts map[K]int) map[string]int {
	out := make(map[string]int, len(counts))
	for k, n := range counts {
		out[k.String()] = n
	}
	return out
}
