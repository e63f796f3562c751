#include "textflag.h"

// The Go assembler does not know AMX; codegen/amd64 has a test of the bytes.

// func tileBF16(config *[64]byte, a, b, c *[1024]byte)
TEXT ·tileBF16(SB), NOSPLIT, $0-32
	MOVQ config+0(FP), AX
	MOVQ a+8(FP), CX
	MOVQ b+16(FP), DX
	MOVQ c+24(FP), BX
	MOVQ $64, SI
	LONG $0x4978e2c4; BYTE $0x00 // ldtilecfg (%rax)
	LONG $0x497be2c4; BYTE $0xc0 // tilezero %tmm0
	LONG $0x4b7be2c4; WORD $0x310c // tileloadd (%rcx,%rsi,1), %tmm1
	LONG $0x4b7be2c4; WORD $0x3214 // tileloadd (%rdx,%rsi,1), %tmm2
	LONG $0x5c6ae2c4; BYTE $0xc1 // tdpbf16ps %tmm2, %tmm1, %tmm0
	LONG $0x4b7ae2c4; WORD $0x3304 // tilestored %tmm0, (%rbx,%rsi,1)
	LONG $0x4978e2c4; BYTE $0xc0 // tilerelease
	RET

// func tileInt8(config *[64]byte, a, b, c *[1024]byte)
TEXT ·tileInt8(SB), NOSPLIT, $0-32
	MOVQ config+0(FP), AX
	MOVQ a+8(FP), CX
	MOVQ b+16(FP), DX
	MOVQ c+24(FP), BX
	MOVQ $64, SI
	LONG $0x4978e2c4; BYTE $0x00 // ldtilecfg (%rax)
	LONG $0x497be2c4; BYTE $0xc0 // tilezero %tmm0
	LONG $0x4b7be2c4; WORD $0x310c // tileloadd (%rcx,%rsi,1), %tmm1
	LONG $0x4b7be2c4; WORD $0x3214 // tileloadd (%rdx,%rsi,1), %tmm2
	LONG $0x5e6be2c4; BYTE $0xc1 // tdpbssd %tmm2, %tmm1, %tmm0
	LONG $0x4b7ae2c4; WORD $0x3304 // tilestored %tmm0, (%rbx,%rsi,1)
	LONG $0x4978e2c4; BYTE $0xc0 // tilerelease
	RET
