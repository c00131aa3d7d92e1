package fleet

import (
	"maps"
	"time"
)

// Report is one AgentToServer in our terms. A nil part means "unchanged since
// the last report of this session" (the protocol's status compression).
type Report struct {
	Agent        AgentID
	Session      uint64    // which connection spoke, growing
	At           time.Time // when it arrived, by our clock
	Capabilities Capabilities
	Labels       Labels // nil: unchanged
	Remote       *RemoteStatus
	Health       *Health
	Effective    *Effective
	Gone         bool // the agent said goodbye, or its connection ended; nothing else is set
}

// RemoteStatus is the agent's word about its remote config.
type RemoteStatus struct {
	Delivery Delivery // zero when the agent reported no hash of ours
	Foreign  bool     // it reported a hash, but not one of ours
	Status   ApplyStatus
	Error    string // at most 1 KiB is kept
}

// Health is the top of the agent's health tree.
type Health struct {
	Healthy bool
	Started time.Time
	Status  string
	Error   string // at most 1 KiB is kept
}

// Effective is what we keep of the effective config the agent reported.
type Effective struct {
	Hash Hash
	Size int // bytes
}

// Fold returns a after r. Reports of a session older than the agent's are
// ignored, and so is the end of one. The quirks of real clients live here, so
// that no decision needs to know them:
//
//   - health between APPLYING and the final status is kept but not judged
//     ([Agent.Settling]): a Collector that restarts is unhealthy for a moment, and
//     healthy before it has settled;
//   - FAILED because of a time-out is not the agent's last word: the Supervisor says
//     so when the Collector is slow to start, and never corrects it. It counts as
//     still applying until a process that started later is healthy, and then as
//     applied; if none ever is, our own deadline ends it;
//   - a delivery once reported FAILED is remembered in LastFailed.
func Fold(a Agent, r Report) Agent {
	if r.Session < a.Session {
		return a
	}
	a.ID = r.Agent
	if r.Gone {
		if a.Connected {
			a.Connected, a.Since = false, r.At
		}
		return a
	}
	if r.Session > a.Session {
		a.Session, a.Known = r.Session, false
	}
	if !a.Connected {
		a.Connected, a.Since = true, r.At
	}
	a.LastSeen, a.Capabilities = r.At, r.Capabilities
	if r.Labels != nil && !maps.Equal(a.Labels, r.Labels) {
		a.Labels = r.Labels
	}
	if r.Effective != nil {
		a.Effective, a.EffectiveSize = r.Effective.Hash, r.Effective.Size
	}
	if r.Remote != nil {
		a = foldRemote(a, *r.Remote)
	}
	if r.Health != nil {
		a = foldHealth(a, *r.Health)
	}
	return a
}

func foldRemote(a Agent, r RemoteStatus) Agent {
	if r.Status == Applying && a.Status != Applying {
		a.StartedBefore = a.Started
	}
	a.Known = true
	a.Delivery, a.Foreign, a.Status, a.Error = r.Delivery, r.Foreign, r.Status, r.Error
	switch {
	case r.Status == Failed && r.Error == timedOut:
		a.Status = Applying
	case r.Status == Failed && !r.Delivery.IsZero():
		a.LastFailed = r.Delivery
	}
	return settle(a)
}

func foldHealth(a Agent, h Health) Agent {
	a.Healthy, a.HealthError, a.Started = h.Healthy, h.Error, h.Started
	return settle(a)
}

// timedOut is how the Supervisor (v0.149) words a FAILED that is not final.
const timedOut = "Config apply timeout exceeded"

// settle ends a time-out that ended well after all.
func settle(a Agent) Agent {
	restarted := a.Started.After(a.StartedBefore) // also when StartedBefore is not known
	if a.Status == Applying && a.Error == timedOut && a.Healthy && restarted {
		a.Status, a.Error = Applied, ""
	}
	return a
}
