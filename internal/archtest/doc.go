// Package archtest holds the rules of the architecture as tests: who may import
// whom, what the pure packages may not touch, that everything exported is
// documented, how large files and functions may be, and that there is no global
// state. It has no code of its own.
//
// Only source text is read, every file of the module whatever its build tags, so
// that the tests are quick and see what a platform hides. A nested module, such as
// test/agents, is another world and is not looked at.
//
// A rule that is in the way is changed here, with the reason next to it, and never
// circumvented.
package archtest
