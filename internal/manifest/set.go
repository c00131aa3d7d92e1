package manifest

import (
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/otelconf"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// APIVersion is what all our manifests say.
const APIVersion = Group + "/v1alpha1"

// Group is the API group of our manifests: a document of this group is ours.
const Group = "bellwether.dev"

// The kinds of manifests.
const (
	KindSelector = "Selector"
	KindRollout  = "Rollout"
	KindLabels   = "Labels"
)

// Problem is one finding, written "file:line:col: rule: message".
type Problem = otelconf.Problem

// The severities of a [Problem].
const (
	Error   = otelconf.Error
	Warning = otelconf.Warning
)

// Options says how strict [Parse] is. The zero value is the default.
type Options struct {
	AllowEmpty bool // accept a commit without any Rollout
	Limits     Limits
}

// Limits bound a commit. Zero fields mean the defaults.
type Limits struct {
	File     otelconf.Limits // for each manifest, and for each config
	Problems int             // more than this many are counted, not listed; 100
	Rollouts int             // 1,000
	Waves    int             // for each Rollout; 100
	Configs  int             // files merged for one Rollout; 32
}

func (l *Limits) setDefaults() {
	for _, limit := range []struct {
		field *int
		value int
	}{{&l.Problems, 100}, {&l.Rollouts, 1000}, {&l.Waves, 100}, {&l.Configs, 32}} {
		if *limit.field <= 0 {
			*limit.field = limit.value
		}
	}
}

// Set is everything a revision declares, checked and with the defaults filled in.
// It is immutable.
type Set struct {
	Revision fleet.Revision
	Rollouts []*Rollout  // sorted by name
	Labels   []LabelRule // by file and place
}

// Rollout is one Rollout manifest with its config rendered. It is immutable.
type Rollout struct {
	Name        string
	Selector    *Selector // never nil
	Priority    int       // of several Rollouts that match an agent the highest owns it
	Spec        rollout.Spec
	Config      fleet.Config // one file: a single config byte for byte, or several merged
	ConfigPaths []string     // as the files lie in the repository, in merge order
	File        string
	Line        int
}

// LabelRule gives labels from git to the agents that report all of Match. A git
// label never overrides one that the agent reports.
type LabelRule struct {
	Match fleet.Labels // never empty
	Set   fleet.Labels // never empty
	File  string
	Line  int
}

// ConfigContentType is the content type of every rendered config.
const ConfigContentType = "text/yaml"

// newConfig names the one file of a config. The name is the one that the protocol
// has for a single file, so that moving a file in the repository changes nothing
// for an agent. (OpAMP specification, AgentConfigMap.)
func newConfig(body []byte) fleet.Config {
	return fleet.NewConfig(fleet.File{Name: "", ContentType: ConfigContentType, Body: body})
}
