package checkpoints

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/nlpodyssey/gopickle/types"
)

// maxListed is how many storages or tensors a tar file may list: no network comes near.
const maxListed = 1 << 17

// readTar reads the form of 2016: an archive of storages (with their elements), tensors (views of storages), and a pickle that refers to tensors by number.
func (f *File) readTar(key string) error {
	f.Form = PyTorchTar
	members, err := f.tarMembers()
	if err != nil {
		return err
	}
	malformed := func(member string) error {
		return &FormatError{Problem: fmt.Sprintf("member %s of its archive is malformed", member), Remedy: again}
	}
	sections := map[string]*pickles{}
	for _, name := range []string{"sys_info", "storages", "tensors", "pickle"} {
		m, ok := members[name]
		if !ok {
			return &FormatError{Problem: fmt.Sprintf("it is a tar archive without a member %s: not a PyTorch checkpoint", name), Remedy: "unpack it: the checkpoint may lie inside"}
		}
		sections[name] = newPickles(f.r, m.at, m.bytes)
	}
	if err := littleEndian(sections["sys_info"]); err != nil {
		return err
	}
	objects := tarObjects{storages: map[string]storage{}, refs: map[string]storageRef{}, tensors: map[string]*pickledTensor{}}
	if ok, err := objects.readStorages(sections["storages"]); err != nil {
		return err
	} else if !ok {
		return malformed("storages")
	}
	if ok, err := objects.readTensors(sections["tensors"]); err != nil {
		return err
	} else if !ok {
		return malformed("tensors")
	}
	v, err := sections["pickle"].next(func(id any) (any, error) {
		t, ok := objects.tensors[valueText(id)]
		if !ok {
			return nil, fmt.Errorf("it refers to %.40q, which is no tensor", valueText(id))
		}
		return t, nil
	})
	if err != nil {
		return err
	}
	return f.fill(v, key, func(k string) (storage, bool) { s, ok := objects.storages[k]; return s, ok })
}

// tarMembers says where in the file the members of the archive lie.
func (f *File) tarMembers() (map[string]storage, error) {
	section := io.NewSectionReader(f.r, 0, f.size)
	members := map[string]storage{}
	for r := tar.NewReader(section); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return members, nil
		}
		if err != nil {
			return nil, &FormatError{Problem: fmt.Sprintf("it is a damaged or truncated tar archive (%v)", err), Remedy: again}
		}
		name := path.Clean(h.Name)
		// Nothing is buffered between the archive and the section, so it stands where the member's data begins.
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice || h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > f.size-at {
			return nil, &FormatError{Problem: fmt.Sprintf("member %s of its archive occurs twice, is no file or lies outside of the archive", quoted(h.Name)), Remedy: again}
		}
		members[name] = storage{at, h.Size}
		if len(members) > 16 {
			return nil, &FormatError{Problem: "it is a tar archive of many files, not a PyTorch checkpoint", Remedy: "unpack it: the checkpoint may lie inside"}
		}
	}
}

// littleEndian reads the description of the machine that wrote a file.
func littleEndian(p *pickles) error {
	machine, err := p.next(nil)
	if err != nil {
		return err
	}
	if d, ok := machine.(*types.Dict); ok {
		if little, ok := d.Get("little_endian"); ok && little != true {
			return &FormatError{Problem: "it is big-endian; only little-endian files are read", Remedy: "save it again on a little-endian machine"}
		}
	}
	return nil
}

// tarObjects are what a tar file lists by number.
type tarObjects struct {
	storages map[string]storage    // with elements of their own
	refs     map[string]storageRef // these and views of them
	tensors  map[string]*pickledTensor
}

// listed reads how many things follow.
func listed(p *pickles) (n int, ok bool, err error) {
	v, err := p.next(nil)
	n, ok = v.(int)
	return n, ok && n >= 0 && n <= maxListed, err
}

// triple reads a pickled tuple of three.
func triple(p *pickles) (a, b, c any, ok bool, err error) {
	v, err := p.next(nil)
	t, ok := v.(*types.Tuple)
	if err != nil || !ok || t.Len() != 3 {
		return nil, nil, nil, false, err
	}
	return t.Get(0), t.Get(1), t.Get(2), true, nil
}

// readStorages reads (key, device, class), a length and the elements of each storage, and then the list of views (key, key of the whole, offset, elements).
func (o tarObjects) readStorages(p *pickles) (ok bool, err error) {
	n, ok, err := listed(p)
	if err != nil || !ok {
		return false, err
	}
	for range n {
		id, _, class, ok, err := triple(p)
		dtype, isClass := class.(storageClass)
		if err != nil || !ok || !isClass {
			return false, err
		}
		k, size := valueText(id), elementBytes[string(dtype)]
		numel, err := p.uint64()
		if err != nil {
			return false, err
		}
		if numel > uint64(p.left/size) {
			return false, p.cut()
		}
		if _, twice := o.refs[k]; twice {
			return false, nil
		}
		o.storages[k] = storage{p.at, int64(numel) * size}
		o.refs[k] = storageRef{key: k, dtype: string(dtype), numel: int64(numel)}
		if err := p.skip(int64(numel) * size); err != nil {
			return false, err
		}
	}
	v, err := p.next(nil)
	views, ok := v.(*types.List)
	if err != nil || !ok || p.left > 0 {
		return false, err
	}
	for _, v := range *views {
		t, ok := v.(*types.Tuple)
		if !ok || t.Len() != 4 {
			return false, nil
		}
		k, whole := valueText(t.Get(0)), o.refs[valueText(t.Get(1))]
		offset, ok1 := t.Get(2).(int)
		numel, ok2 := t.Get(3).(int)
		if _, twice := o.refs[k]; twice || !ok1 || !ok2 || offset < 0 || numel < 0 || int64(offset) > whole.numel || int64(numel) > whole.numel-int64(offset) {
			return false, nil
		}
		o.refs[k] = storageRef{key: whole.key, dtype: whole.dtype, offset: whole.offset + int64(offset), numel: int64(numel)}
	}
	return true, nil
}

// readTensors reads (key, key of the storage, class) and then, as numbers of 8 bytes, rank, extents, strides and offset of each tensor.
func (o tarObjects) readTensors(p *pickles) (ok bool, err error) {
	n, ok, err := listed(p)
	if err != nil || !ok {
		return false, err
	}
	for range n {
		id, in, _, ok, err := triple(p)
		if err != nil || !ok {
			return false, err
		}
		s, known := o.refs[valueText(in)]
		rank, err := p.uint64()
		if err != nil {
			return false, err
		}
		rank &= 0xffffffff // the upper half was never used
		if _, twice := o.tensors[valueText(id)]; !known || rank > 64 || twice {
			return false, nil
		}
		numbers := make([]int, 2*rank+1)
		for i := range numbers {
			v, err := p.uint64()
			if err != nil {
				return false, err
			}
			numbers[i] = int(v)
		}
		o.tensors[valueText(id)] = &pickledTensor{storage: s, offset: int64(numbers[2*rank]), shape: numbers[:rank:rank], strides: numbers[rank : 2*rank : 2*rank]}
	}
	if p.left > 0 {
		return false, nil
	}
	return true, nil
}
