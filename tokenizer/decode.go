package tokenizer

// This file owns decoding: the steps of the decoder, run over the texts of the
// tokens one after the other.

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// An Op is the operation of a decoder step.
type Op uint32

// The operations.
const (
	// OpByteFallback turns runs of byte tokens such as <0xE3> into the text
	// that they spell, or each into U+FFFD if they spell none.
	OpByteFallback Op = iota
	// OpReplace replaces From by To everywhere in each token.
	OpReplace
	// OpReplaceStart replaces From by To once at the start of each token.
	OpReplaceStart
	// OpFuse joins all tokens into one.
	OpFuse
	// OpStrip drops up to Start times From at the start and up to Stop times
	// at the end of each token.
	OpStrip
	// OpMetaspace replaces From by a space, in the first token by To.
	OpMetaspace
	opCount
)

// steps has the function of each operation: it appends the result of step on
// in to out, which is empty.
var steps = [opCount]func(im *Image, step Step, in, out *texts){
	OpByteFallback: (*Image).byteFallback,
	OpReplace:      (*Image).replace,
	OpReplaceStart: (*Image).replaceStart,
	OpFuse:         (*Image).fuse,
	OpStrip:        (*Image).strip,
	OpMetaspace:    (*Image).metaspace,
}

// Decode returns the text of ids. Ids that are not in the vocabulary count for
// nothing, as in Hugging Face tokenizers, and so do special tokens if
// skipSpecial is true.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	im := &t.im
	in, out := new(texts), new(texts)
	for _, id := range ids {
		known := id >= 0 && int(id) < len(im.TokenEnds)
		if !known || skipSpecial && im.Special[id/32]>>(id%32)&1 == 1 {
			continue
		}
		in.add(im.token(id))
	}
	if im.HasDecoder == 0 {
		return string(bytes.Join(in.all(), []byte(" ")))
	}
	for _, step := range im.Steps {
		out.reset()
		steps[step.Op](im, step, in, out)
		in, out = out, in
	}
	return string(in.text)
}

// texts is a list of strings in one buffer.
type texts struct {
	text []byte
	ends []int
}

func (l *texts) reset() { *l = texts{l.text[:0], l.ends[:0]} }

func (l *texts) add(s []byte) {
	l.text = append(l.text, s...)
	l.end()
}

// end makes what was appended to text since the last call a string.
func (l *texts) end() { l.ends = append(l.ends, len(l.text)) }

// each calls f with each string and its number.
func (l *texts) each(f func(i int, s []byte)) {
	start := 0
	for i, end := range l.ends {
		f(i, l.text[start:end])
		start = end
	}
}

func (l *texts) all() [][]byte {
	list := make([][]byte, 0, len(l.ends))
	l.each(func(_ int, s []byte) { list = append(list, s) })
	return list
}

func (im *Image) stepText(s Span) []byte { return im.StepText[s.Start:s.End] }

func (im *Image) byteFallback(_ Step, in, out *texts) {
	var run []byte
	endRun := func() {
		if len(run) > 0 && utf8.Valid(run) {
			out.add(run)
		} else {
			for range run {
				out.add([]byte(string(utf8.RuneError)))
			}
		}
		run = run[:0]
	}
	in.each(func(_ int, s []byte) {
		if b, ok := byteOf(s); ok {
			run = append(run, b)
			return
		}
		endRun()
		out.add(s)
	})
	endRun()
}

// byteOf returns the byte that a token such as <0xE3> stands for.
func byteOf(token []byte) (byte, bool) {
	if len(token) != len("<0x00>") || token[0] != '<' || token[1] != '0' || token[2] != 'x' || token[5] != '>' {
		return 0, false
	}
	b, err := strconv.ParseUint(string(token[3:5]), 16, 8)
	return byte(b), err == nil
}

func (im *Image) replace(step Step, in, out *texts) {
	from, to := im.stepText(step.From), im.stepText(step.To)
	in.each(func(_ int, s []byte) { out.addReplaced(s, from, to) })
}

func (l *texts) addReplaced(s, from, to []byte) {
	for len(from) > 0 {
		i := bytes.Index(s, from)
		if i < 0 {
			break
		}
		l.text = append(append(l.text, s[:i]...), to...)
		s = s[i+len(from):]
	}
	l.add(s)
}

func (im *Image) replaceStart(step Step, in, out *texts) {
	from, to := im.stepText(step.From), im.stepText(step.To)
	in.each(func(_ int, s []byte) {
		if rest, ok := bytes.CutPrefix(s, from); ok {
			out.text = append(out.text, to...)
			s = rest
		}
		out.add(s)
	})
}

func (im *Image) fuse(_ Step, in, out *texts) { out.add(in.text) }

func (im *Image) strip(step Step, in, out *texts) {
	from := im.stepText(step.From)
	in.each(func(_ int, s []byte) {
		for range step.Start {
			rest, ok := bytes.CutPrefix(s, from)
			if !ok || len(from) == 0 {
				break
			}
			s = rest
		}
		for range step.Stop {
			rest, ok := bytes.CutSuffix(s, from)
			if !ok || len(from) == 0 {
				break
			}
			s = rest
		}
		out.add(s)
	})
}

func (im *Image) metaspace(step Step, in, out *texts) {
	from, to := im.stepText(step.From), im.stepText(step.To)
	in.each(func(i int, s []byte) {
		if i > 0 {
			to = []byte(" ")
		}
		out.addReplaced(s, from, to)
	})
}
