//go:build e2e && race

package e2e

// raceEnabled says that the product under test is built with the race detector.
const raceEnabled = true
