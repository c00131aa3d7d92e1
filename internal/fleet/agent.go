package fleet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// AgentID is the instance_uid of one OpAMP client (16 bytes, by convention a
// UUIDv7). It is the identity everywhere: in records, in wave ranks, in the API.
// (OpAMP specification, AgentToServer.instance_uid.)
type AgentID [16]byte

// ErrAgentID says that a text is not the 36-character form of an [AgentID].
var ErrAgentID = errors.New("not an agent id: want 8-4-4-4-12 hexadecimal digits")

// ParseAgentID reads the 36-character UUID form written by [AgentID.String].
func ParseAgentID(s string) (AgentID, error) {
	var id AgentID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, ErrAgentID
	}
	packed := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(packed)); err != nil {
		return AgentID{}, ErrAgentID
	}
	return id, nil
}

// String returns the UUID form, 36 characters.
func (id AgentID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return string(b[:])
}

// Compare orders ids by their bytes: -1, 0 or 1.
func (id AgentID) Compare(other AgentID) int {
	for i := range id {
		switch {
		case id[i] < other[i]:
			return -1
		case id[i] > other[i]:
			return 1
		}
	}
	return 0
}

// MarshalText implements [encoding.TextMarshaler] with [AgentID.String].
func (id AgentID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with [ParseAgentID].
func (id *AgentID) UnmarshalText(text []byte) error {
	parsed, err := ParseAgentID(string(text))
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	*id = parsed
	return nil
}

// Capabilities is the bit set an agent declares (OpAMP specification,
// AgentCapabilities). The values are those of the protocol.
type Capabilities uint64

// The capabilities that decisions depend on.
const (
	ReportsStatus          Capabilities = 0x1
	AcceptsRemoteConfig    Capabilities = 0x2
	ReportsEffectiveConfig Capabilities = 0x4
	ReportsHealth          Capabilities = 0x800
	ReportsRemoteConfig    Capabilities = 0x1000
	ReportsHeartbeat       Capabilities = 0x2000
)

// Has reports whether every bit of want is set.
func (c Capabilities) Has(want Capabilities) bool { return c&want == want }

// ApplyStatus is the agent's own word about the last config it was offered
// (OpAMP specification, RemoteConfigStatuses).
type ApplyStatus uint8

// The words of an agent about an offer.
const (
	Unset    ApplyStatus = iota // nothing was ever offered, or the agent does not say
	Applied                     // it runs
	Applying                    // it is being tried
	Failed                      // it was refused
)

// String returns "unset", "applied", "applying" or "failed".
func (s ApplyStatus) String() string {
	return [...]string{"unset", "applied", "applying", "failed"}[s&3]
}

// MarshalText implements [encoding.TextMarshaler] with [ApplyStatus.String].
func (s ApplyStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] for [ApplyStatus.String].
func (s *ApplyStatus) UnmarshalText(text []byte) error {
	for _, known := range []ApplyStatus{Unset, Applied, Applying, Failed} {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("unknown apply status %q", text)
}

// Agent is what we believe about one agent: its reports folded in order by
// [Fold]. It lives in memory only, is rebuilt from the agent's own reports after
// a restart, and is a value: a changed Agent is a new one.
type Agent struct {
	ID           AgentID
	Labels       Labels // identifying and other attributes, merged; never changed in place
	Capabilities Capabilities

	// Connected is true while a connection (or, over plain HTTP, a recent poll)
	// speaks for the agent. Known is true once this session told us its remote
	// config status; until then nothing is offered and nothing is good.
	Connected bool
	Known     bool
	Session   uint64    // grows with each connection that speaks for the agent
	Since     time.Time // when Connected last changed
	LastSeen  time.Time // last report

	// Delivery, Status and Error are the agent's remote config status. Delivery is
	// the zero value when the agent never had a config of ours; Foreign is true
	// when it reported a hash that is no [Delivery] at all.
	Delivery Delivery
	Foreign  bool
	Status   ApplyStatus
	Error    string

	// LastFailed is the last delivery it ever reported FAILED, remembered because
	// after a self-rollback the status says APPLIED of something older (I18).
	LastFailed Delivery

	// Healthy and HealthError are the top of the health tree. They are not judged
	// while the agent is [Agent.Settling].
	Healthy       bool
	HealthError   string
	Started       time.Time // start_time of the agent's process, by its own clock; zero when not reported
	StartedBefore time.Time // Started as it was when the agent last began to apply

	// Effective is the hash of the effective config's text; EffectiveSize its
	// length in bytes. The text is never compared, and never kept here.
	Effective     Hash
	EffectiveSize int
}

// Observable reports whether the agent tells us what became of an offer. One
// that does not is served in the last wave only and is never evidence.
func (a *Agent) Observable() bool {
	return a.Capabilities.Has(ReportsRemoteConfig)
}

// Steerable reports whether the agent accepts remote configs at all.
func (a *Agent) Steerable() bool { return a.Capabilities.Has(AcceptsRemoteConfig) }

// Runs reports whether the agent says that d is applied.
func (a *Agent) Runs(d Delivery) bool {
	return !d.IsZero() && a.Known && a.Status == Applied && a.Delivery == d
}

// Settling reports whether the agent is between APPLYING and the final status,
// when its health says nothing yet.
func (a *Agent) Settling() bool { return a.Status == Applying }

// Good reports whether the agent is connected, runs d and is healthy: one
// instant of what has to last for minHealthyTime (promise I3). An agent that
// does not report health is taken at its word APPLIED.
func (a *Agent) Good(d Delivery) bool {
	return a.Connected && a.Runs(d) && (a.Healthy || !a.Capabilities.Has(ReportsHealth))
}
