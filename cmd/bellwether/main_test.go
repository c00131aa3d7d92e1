package main

import (
	"os"
	"testing"
)

// TestMain lets the test binary be the program, so that tests can start real
// processes of exactly the code under test.
func TestMain(m *testing.M) {
	if os.Getenv("BELLWETHER_TEST_MAIN") != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv("BELLWETHER_TEST_FLOOR") != "" {
		if err := floorMain(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
