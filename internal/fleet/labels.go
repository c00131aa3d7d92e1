package fleet

import (
	"maps"
	"slices"
	"strings"
)

// Labels are an agent's attributes by key: what selectors match. A Labels value
// is never changed once it is shared.
type Labels map[string]string

// String returns "a=1,b=2", sorted by key.
func (l Labels) String() string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(l)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(k)
		b.WriteByte('=')
		b.WriteString(l[k])
	}
	return b.String()
}

// Equal reports whether both hold the same pairs.
func (l Labels) Equal(other Labels) bool { return maps.Equal(l, other) }
