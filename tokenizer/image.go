package tokenizer

// This file owns the image format: the tables, their order, and the checks
// that make every index in them safe to follow.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// Version is the version of the image format that this package reads and
// writes. It changes with any change to the tables.
const Version = 1

const (
	magic        = "BERTCTOK"
	alignment    = 8
	sectionCount = 13
	runePages    = 0x110000 >> 8
	noID         = -1
)

// A Prefix says how the normalizer puts ▁ (U+2581) before each stretch of text
// between added tokens. The forms differ in the offsets and in when they apply.
type Prefix uint32

const (
	// PrefixNone puts nothing before the text.
	PrefixNone Prefix = iota
	// PrefixInsert inserts ▁ with an empty offset, as a Replace of the
	// empty match at the start does.
	PrefixInsert
	// PrefixPrepend prepends ▁ with the offset of the first character.
	PrefixPrepend
	// PrefixPrependMissing is PrefixPrepend unless the text starts with a
	// space or ▁ already.
	PrefixPrependMissing
	prefixCount
)

// A Role is a part that one special token plays in a model.
type Role int

// The roles, in the order of Settings.Roles.
const (
	RoleMask Role = iota
	RoleCLS
	RoleSEP
	RolePAD
	RoleCount
)

// Settings are the scalar settings of an image. All fields are 32 or 64 bits
// wide and the struct has no padding, so that its memory is its file form.
type Settings struct {
	UnkScore     float64          // score of a character that no piece covers
	UnkID        int32            // id of the unknown token
	MaxPiece     uint32           // length of the longest piece in code points, at least 1
	Prefix       Prefix           // what is put before each stretch of text
	MapSpaces    uint32           // 1: U+0020 becomes ▁
	ByteFallback uint32           // 1: unknown characters become byte tokens
	HasDecoder   uint32           // 0: decoding joins the tokens with spaces
	Roles        [RoleCount]int32 // id of the token of each role, or -1
}

// A Unit is one slot of the double array that holds the pieces as a trie over
// character codes. The child of unit p for code c is p.Base+c (modulo 2^32)
// if that is a unit whose Check is p. Unit 0 is the root and has Base 0.
type Unit struct {
	Base  uint32
	Check uint32
	Score float64 // of the piece that ends here, or -Inf if none does
}

// Flags of an added token.
const (
	AddedLStrip = 1 << iota // the token takes the white space before it
	AddedRStrip             // the token takes the white space after it
)

// Added is a token that is cut out of the raw text before anything else
// happens to it. Its content is the text of its id.
type Added struct {
	ID    int32
	Flags uint32
}

// An ItemKind says what one item of a template stands for.
type ItemKind uint32

// The kinds of items.
const (
	ItemSpecial ItemKind = iota // one special token
	ItemA                       // the first text
	ItemB                       // the second text
	itemKinds
)

// An Item is one item of a post-processing template.
type Item struct {
	Kind   ItemKind
	TypeID int32
	ID     int32 // of an ItemSpecial
}

// A Span is a part of Image.StepText.
type Span struct{ Start, End uint32 }

// A Step is one step of the decoder. What From, To, Start and Stop mean
// depends on Op; see the steps in decode.go.
type Step struct {
	Op          Op
	Start, Stop uint32
	From, To    Span
}

// An Image is the content of a tokenizer image, table by table. Package hf
// fills one in from tokenizer.json and calls Marshal; Open makes one whose
// tables lie in the image itself.
type Image struct {
	Settings
	Units     []Unit   // the double array
	UnitIDs   []int32  // per unit: id of the piece that ends there, or -1
	Pages     []uint16 // per 256 code points: index of their page in Codes
	Codes     []uint16 // pages of 256 character codes; 0 is "in no piece"
	TokenEnds []uint32 // per id: end of its text in TokenText
	TokenText []byte   // the texts of all tokens, in the order of ids
	Special   []uint32 // bit set over ids: tokens that decoding may skip
	Added     []Added  // in the byte order of their contents, without doubles
	ByteIDs   []int32  // per byte: id of its fallback token, or -1
	Single    []Item   // template for one text
	Pair      []Item   // template for two texts
	Steps     []Step   // the decoder
	StepText  []byte   // the strings of the decoder
}

// header is the start of an image; the sections follow it in the order of
// Image.sections, each at a multiple of the alignment.
type header struct {
	Magic    [len(magic)]byte
	Version  uint32
	Size     uint32 // of the whole image in bytes
	Settings Settings
	Sections [sectionCount]struct{ Offset, Size uint32 }
}

// section ties one table of an Image to its bytes in a file.
type section struct {
	name    string
	element int
	append  func(dst []byte) ([]byte, error)
	view    func(b []byte)
}

func sectionOf[T any](name string, table *[]T) section {
	element := int(unsafe.Sizeof(*new(T)))
	return section{
		name:    name,
		element: element,
		append: func(dst []byte) ([]byte, error) {
			return binary.Append(dst, binary.LittleEndian, *table)
		},
		view: func(b []byte) {
			*table = unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/element)
		},
	}
}

func (im *Image) sections() [sectionCount]section {
	return [sectionCount]section{
		sectionOf("units", &im.Units),
		sectionOf("unit ids", &im.UnitIDs),
		sectionOf("pages", &im.Pages),
		sectionOf("codes", &im.Codes),
		sectionOf("token ends", &im.TokenEnds),
		sectionOf("token text", &im.TokenText),
		sectionOf("special tokens", &im.Special),
		sectionOf("added tokens", &im.Added),
		sectionOf("byte tokens", &im.ByteIDs),
		sectionOf("single template", &im.Single),
		sectionOf("pair template", &im.Pair),
		sectionOf("decoder steps", &im.Steps),
		sectionOf("decoder text", &im.StepText),
	}
}

// Marshal returns the file form of im. It returns an error if the result
// would not pass the checks of Open or would be larger than 4 GiB.
func (im *Image) Marshal() ([]byte, error) {
	if err := im.check(); err != nil {
		return nil, err
	}
	h := header{Version: Version, Settings: im.Settings}
	copy(h.Magic[:], magic)
	out := make([]byte, unsafe.Sizeof(h))
	var err error
	for i, s := range im.sections() {
		out = append(out, make([]byte, -len(out)&(alignment-1))...)
		start := len(out)
		if out, err = s.append(out); err != nil {
			return nil, fmt.Errorf("tokenizer image: section %q: %w", s.name, err)
		}
		if uint64(len(out)) > math.MaxUint32 {
			return nil, errors.New("tokenizer image: it is larger than 4 GiB")
		}
		h.Sections[i].Offset = uint32(start)
		h.Sections[i].Size = uint32(len(out) - start)
	}
	h.Size = uint32(len(out))
	if _, err := binary.Encode(out, binary.LittleEndian, &h); err != nil {
		return nil, fmt.Errorf("tokenizer image: header: %w", err)
	}
	return out, nil
}

// Open returns a tokenizer that uses image in place. The image must start at
// an address that is a multiple of 8 and must stay as it is, and mapped, for
// as long as the tokenizer is used. Bytes after the end that the image's
// header states are ignored. Any content is safe to open: it gives an error or
// a tokenizer that cannot reach outside the image.
func Open(image []byte) (*Tokenizer, error) {
	if probe := uint16(1); *(*byte)(unsafe.Pointer(&probe)) != 1 {
		return nil, errors.New("tokenizer image: this machine is big-endian, which is not supported")
	}
	var h *header
	if uintptr(len(image)) < unsafe.Sizeof(*h) {
		return nil, fmt.Errorf("tokenizer image: %d bytes are too few for a header", len(image))
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(image)))%alignment != 0 {
		return nil, fmt.Errorf("tokenizer image: its address is not a multiple of %d", alignment)
	}
	h = (*header)(unsafe.Pointer(unsafe.SliceData(image)))
	if string(h.Magic[:]) != magic {
		return nil, errors.New("tokenizer image: the magic number is wrong")
	}
	if h.Version != Version {
		return nil, fmt.Errorf("tokenizer image: version %d is not supported (supported: %d)", h.Version, Version)
	}
	if uint64(h.Size) > uint64(len(image)) {
		return nil, fmt.Errorf("tokenizer image: it is cut short: %d of %d bytes", len(image), h.Size)
	}
	t := &Tokenizer{im: Image{Settings: h.Settings}}
	for i, s := range t.im.sections() {
		at := h.Sections[i]
		if at.Offset%alignment != 0 || int(at.Size)%s.element != 0 ||
			uint64(at.Offset)+uint64(at.Size) > uint64(h.Size) {
			return nil, fmt.Errorf("tokenizer image: section %q is out of place", s.name)
		}
		s.view(image[at.Offset : uint64(at.Offset)+uint64(at.Size)])
	}
	if err := t.im.check(); err != nil {
		return nil, err
	}
	t.init()
	return t, nil
}

// check makes sure that every index that the run time follows without looking
// is in range. What it leaves out is checked where it is used: the children
// of units (by the bounds of Units and by Check), and pieces without an id.
func (im *Image) check() error {
	fail := func(what string) error { return fmt.Errorf("tokenizer image: the %s are invalid", what) }
	vocab := len(im.TokenEnds)
	isID := func(id int32) bool { return id >= 0 && int(id) < vocab }
	isIDOrNone := func(id int32) bool { return id >= noID && int(id) < vocab }

	if vocab > math.MaxInt32 || !isID(im.UnkID) || im.Prefix >= prefixCount ||
		im.MaxPiece == 0 || im.MaxPiece > math.MaxInt32 || im.MapSpaces > 1 || im.ByteFallback > 1 || im.HasDecoder > 1 {
		return fail("settings")
	}
	for _, id := range im.Roles {
		if !isIDOrNone(id) {
			return fail("roles")
		}
	}
	if len(im.Units) == 0 || len(im.Units) > math.MaxInt32 || len(im.UnitIDs) != len(im.Units) {
		return fail("units")
	}
	for _, id := range im.UnitIDs {
		if !isIDOrNone(id) {
			return fail("unit ids")
		}
	}
	if len(im.Pages) != runePages || len(im.Codes)%256 != 0 {
		return fail("pages")
	}
	for _, page := range im.Pages {
		if int(page) >= len(im.Codes)/256 {
			return fail("pages")
		}
	}
	end := uint32(0)
	for _, e := range im.TokenEnds {
		if e < end {
			return fail("token ends")
		}
		end = e
	}
	if uint64(end) != uint64(len(im.TokenText)) {
		return fail("token ends")
	}
	if len(im.Special) != (vocab+31)/32 {
		return fail("special tokens")
	}
	before := ""
	for _, a := range im.Added {
		if !isID(a.ID) || string(im.token(a.ID)) <= before {
			return fail("added tokens")
		}
		before = string(im.token(a.ID))
	}
	if len(im.ByteIDs) != 256 {
		return fail("byte tokens")
	}
	for _, id := range im.ByteIDs {
		if !isIDOrNone(id) {
			return fail("byte tokens")
		}
	}
	for _, template := range [][]Item{im.Single, im.Pair} {
		for _, item := range template {
			if item.Kind >= itemKinds || item.Kind == ItemSpecial && !isID(item.ID) {
				return fail("templates")
			}
		}
	}
	for _, item := range im.Single {
		if item.Kind == ItemB {
			return fail("templates")
		}
	}
	isSpan := func(s Span) bool { return s.Start <= s.End && uint64(s.End) <= uint64(len(im.StepText)) }
	for _, step := range im.Steps {
		if step.Op >= opCount || !isSpan(step.From) || !isSpan(step.To) {
			return fail("decoder steps")
		}
	}
	return nil
}

// token returns the text of id, which must be in range.
func (im *Image) token(id int32) []byte {
	start := uint32(0)
	if id > 0 {
		start = im.TokenEnds[id-1]
	}
	return im.TokenText[start:im.TokenEnds[id]]
}
