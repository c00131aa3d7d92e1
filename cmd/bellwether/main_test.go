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
	os.Exit(m.Run())
}
