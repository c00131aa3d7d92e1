package reconciler

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// RevisionStatus is what became of one revision of the fleet repository: it was
// accepted whole, or rejected whole.
type RevisionStatus struct {
	Revision fleet.Revision
	Accepted bool
	SeenAt   time.Time
	Problems []string // "file:line:col: rule: message", errors and warnings, in order
}
