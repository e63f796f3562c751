// Package arch holds the test of the rules that the packages of the module obey: who may import
// whom, that every package says what it is, and that nothing is left for later. It has no code of
// its own and imports nothing of the module. Start reading at rules in arch_test.go.
package arch
