package amd64

import (
	"testing"

	"github.com/bertc/bertc/codegen/codegentest"
)

func TestConformance(t *testing.T) {
	codegentest.Run(t, New(), codegentest.Native)
}
