package archtest

import (
	"slices"
	"testing"
)

// Nothing sleeps: code waits for a channel, a timer or its context, and tests wait
// in a synctest bubble, where time passes at once. A package's tests may share a
// function that sleeps, so the bubble is looked for in all of them.
func TestNobodySleeps(t *testing.T) {
	for _, fs := range byDir(files(t)) {
		bubbles := slices.ContainsFunc(fs, func(f *file) bool {
			return f.isTest() && f.names()["testing/synctest"] != ""
		})
		for _, f := range fs {
			for name, pos := range f.uses("time") {
				switch {
				case name != "Sleep":
				case !f.isTest():
					t.Errorf("%s: time.Sleep cannot be stopped: select on a timer and the context", f.at(pos))
				case !bubbles:
					t.Errorf("%s: time.Sleep in a test without testing/synctest: wait for the event itself, or enter a bubble", f.at(pos))
				}
			}
		}
	}
}
