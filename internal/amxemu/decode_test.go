package main

import (
	"encoding/hex"
	"testing"
)

// TestDecode: encodings that GNU as and LLVM give. Their emitter is tested against an assembler in
// codegen/amd64.
func TestDecode(t *testing.T) {
	none := instruction{base: -1, index: -1, scale: 1}
	with := func(op operation, f func(*instruction)) instruction { i := none; i.op = op; f(&i); return i }
	tests := []struct {
		code string
		want instruction
	}{
		{"c4e2784901", with(ldtilecfg, func(i *instruction) { i.base = 1 })},
		{"c4e2794901", with(sttilecfg, func(i *instruction) { i.base = 1 })},
		{"c4e27849c0", with(tilerelease, func(i *instruction) {})},
		{"c4e27b49e8", with(tilezero, func(i *instruction) { i.r = 5 })},
		{"c4827b4b340c", with(tileloadd, func(i *instruction) { i.r, i.base, i.index = 6, 12, 9 })},
		{"c4827b4bbc0c00040000", with(tileloadd, func(i *instruction) { i.r, i.base, i.index, i.disp = 7, 12, 9, 1024 })},
		{"c482794b340c", with(tileloaddt1, func(i *instruction) { i.r, i.base, i.index = 6, 12, 9 })},
		{"c4e27b4b3421", with(tileloadd, func(i *instruction) { i.r, i.base = 6, 1 })},
		{"c4e27b4b7401f8", with(tileloadd, func(i *instruction) { i.r, i.base, i.index, i.disp = 6, 1, 0, ^uint64(7) })},
		{"c4e27a4b04be", with(tilestored, func(i *instruction) { i.base, i.index, i.scale = 6, 7, 4 })},
		{"c4e24a5cc4", with(tdpbf16ps, func(i *instruction) { i.m, i.v = 4, 6 })},
		{"c4e24b5ec4", with(tdpbssd, func(i *instruction) { i.m, i.v = 4, 6 })},
		{"c4e24a5ec4", with(tdpbsud, func(i *instruction) { i.m, i.v = 4, 6 })},
		{"c4e2495ec4", with(tdpbusd, func(i *instruction) { i.m, i.v = 4, 6 })},
		{"c4e2485ec4", with(tdpbuud, func(i *instruction) { i.m, i.v = 4, 6 })},
		{"410f189100010000", with(prefetch, func(i *instruction) { i.r, i.base, i.disp = 2, 9, 256 })},
		{"0f1810", with(prefetch, func(i *instruction) { i.r, i.base = 2, 0 })},
	}
	for _, tt := range tests {
		code, err := hex.DecodeString(tt.code)
		if err != nil {
			t.Fatal(err)
		}
		tt.want.size = len(code)
		if got, ok := decode(append(code, 0x90, 0x90)); !ok || got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.code, got, tt.want)
		}
		for n := range code {
			if got, ok := decode(code[:n]); ok {
				t.Errorf("%s cut to %d bytes: %+v", tt.code, n, got)
			}
		}
	}
	for name, code := range map[string]string{
		"UD2":                   "0f0b",
		"FMA":                   "c4e275b8c2",
		"W = 1":                 "c4e2cb5cc4",
		"L = 1":                 "c4e24e5cc4",
		"tile 8":                "c4624a5cc4",
		"load without an index": "c4e27b4b31",
		"load with vvvv":        "c4e2734b3421",
		"TILERELEASE of memory": "c4e27849c8",
		"relative to RIP":       "c4e278490500000000",
		"no base":               "c4e27b4b342500000000",
		"prefetch of register":  "0f18d0",
	} {
		b, err := hex.DecodeString(code)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := decode(append(b, make([]byte, 8)...)); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xc4, 0xe2, 0x4a, 0x5c, 0xc4})
	f.Fuzz(func(t *testing.T, code []byte) {
		if i, ok := decode(code); ok && (i.size < 2 || i.size > len(code)) {
			t.Errorf("%x: %+v", code, i)
		}
	})
}
