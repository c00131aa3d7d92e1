package controller

import (
	"cmp"
	"slices"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// version is what an agent says it is.
type version struct{ service, version string }

// maxVersions bounds the series of bellwether_agent_versions; rarer versions are
// summed as "other".
const maxVersions = 50

// countVersions counts connected agents by service and version.
func countVersions(agents []*fleet.Agent) map[version]int {
	counts := map[version]int{}
	for _, a := range agents {
		if a.Connected {
			counts[version{a.Labels["service.name"], a.Labels["service.version"]}]++
		}
	}
	if len(counts) <= maxVersions {
		return counts
	}
	common := make([]version, 0, len(counts))
	for v := range counts {
		common = append(common, v)
	}
	slices.SortFunc(common, func(a, b version) int {
		return cmp.Or(counts[b]-counts[a], cmp.Compare(a.service, b.service), cmp.Compare(a.version, b.version))
	})
	other := version{"other", "other"}
	for _, v := range common[maxVersions-1:] {
		n := counts[v]
		delete(counts, v)
		counts[other] += n
	}
	return counts
}
