#!/usr/bin/env bash
# Installs what the project needs into .venv at the root of the checkout, and nothing anywhere else.
#
#   setup.sh base        Python environment, XLA plugin, ECharts: what `make test` uses
#   setup.sh notebooks   the above, JupyterLab, the Go kernel and the chart extension: what `make quickstart` and `make lab` use
#
# Running it again is cheap: finished steps are recognised. It repairs a checkout that was moved or a set-up that was interrupted.
# Needs Go and Python 3 with venv (Debian: python3-venv).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
VENV=$ROOT/.venv
SHARE=$VENV/share/carso
PYTHON=$VENV/bin/python

# Versions. The tests' tolerances were measured with the CPU's plugin.
XLA_CPU="xla-cpu-pjrt==0.0.1"
# JAX's plugin for CUDA 13 is one for PJRT like any other; it finds NVIDIA's libraries beside itself. Tried on an H200 (docs/performance.md).
XLA_CUDA="jax-cuda13-pjrt==0.11.2"
CUDA_LIBRARIES=("nvidia-cublas>=13.0.0.19,<14" "nvidia-cuda-cupti>=13.0.48,<14" "nvidia-cuda-nvcc>=13.0.48,<14" "nvidia-cuda-nvrtc>=13.0.48,<14"
	"nvidia-cuda-runtime>=13.0.48,<14" "nvidia-cudnn-cu13>=9.12.0.46,<10" "nvidia-cufft>=12.0.0.15,<13" "nvidia-cusolver>=12.0.3.29,<13"
	"nvidia-cusparse>=12.6.2.49,<13" "nvidia-nccl-cu13>=2.27.7,<3" "nvidia-nvjitlink>=13.0.39,<14" "nvidia-nvshmem-cu13>=3.3.20,<4" "nvidia-nvvm>=13,<14")
NOTEBOOK=("jupyterlab>=4.2,<5" "nbconvert>=7,<8" "nbclient>=0.10,<1")
GOIMPORTS=v0.44.0
# The wheel of panel carries ECharts: one download by pip alone, without Node.
ECHARTS_WHEEL="panel==1.9.4"
ECHARTS_MEMBER="panel/dist/bundled/echarts/echarts@6.0.0/dist/echarts.min.js"
ECHARTS_SHA256=baa8dfe7e1d9336b98e8986ba7e20ea15e7cdbea1ef42a59d59478632fa45a1d

say() { printf 'setup: %s\n' "$*"; }
fail() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}
pip() { "$PYTHON" -m pip --disable-pip-version-check "$@"; } # the pip script itself holds an absolute path

# stamped NAME INPUTS...: true when step NAME was finished with these inputs. done_with NAME INPUTS... records that.
stamped() { [ "$(cat "$SHARE/stamps/$1" 2>/dev/null)" = "${*:2}" ]; }
done_with() {
	mkdir -p "$SHARE/stamps"
	printf '%s' "${*:2}" >"$SHARE/stamps/$1"
}
# replace FILE: writes FILE from the input, so that a reader sees the old or the new one.
replace() {
	mkdir -p "$(dirname "$1")"
	cat >"$1.new.$$"
	mv "$1.new.$$" "$1"
}

make_venv() {
	if ! "$PYTHON" -c 'import pip' 2>/dev/null; then
		command -v python3 >/dev/null || fail "python3 is missing: install Python 3 with venv (Debian: apt install python3-venv)"
		say "making the Python environment in .venv"
		# On top of what may be there: an interrupted run, or an environment whose Python has gone and left dead links.
		rm -f "$VENV"/bin/python*
		python3 -m venv "$VENV" >/dev/null ||
			fail "python3 -m venv failed: install Python's venv module (Debian: apt install python3-venv)"
	fi
	mkdir -p "$SHARE"
	"$PYTHON" "$HERE/relocate.py" "$VENV"
}

site() { "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

install_plugin() {
	local site cpu=xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so cuda=jax_plugins/xla_cuda13/xla_cuda_plugin.so
	site=$(site)
	if ! { stamped xla "$XLA_CPU" || "$PYTHON" "$HERE/installed.py" "$XLA_CPU"; } || [ ! -s "$site/$cpu" ]; then
		say "installing the XLA plugin for the CPU"
		pip install -q "$XLA_CPU" || fail "pip could not install $XLA_CPU: is the network there?"
		[ -s "$site/$cpu" ] || fail "$XLA_CPU holds no $cpu"
	fi
	done_with xla "$XLA_CPU"
	local plugin=$cpu
	if has_gpu; then
		if { stamped cuda "$XLA_CUDA" "${CUDA_LIBRARIES[@]}" && [ -s "$site/$cuda" ]; } ||
			{ say "installing the XLA plugin for NVIDIA GPUs and its libraries, some 3.5 GB" && pip install -q "$XLA_CUDA" "${CUDA_LIBRARIES[@]}" && done_with cuda "$XLA_CUDA" "${CUDA_LIBRARIES[@]}"; }; then
			if why=$("$PYTHON" "$HERE/cuda.py" "$site/$cuda" "$site/nvidia/cudnn/lib/libcudnn.so.9" 2>&1); then
				plugin=$cuda
			else
				rm -f "$SHARE/stamps/cuda"
				say "the GPU cannot be used, using the CPU: ${why##*$'\n'}"
			fi
		else
			say "pip could not install $XLA_CUDA, using the CPU"
		fi
	fi
	# Relative to .venv: stays right when the checkout moves.
	printf '%s\n' "${site#"$VENV"/}/$plugin" | replace "$SHARE/plugin"
}

has_gpu() { [ -e /dev/nvidia0 ] || { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }; }

install_echarts() {
	local file=$SHARE/echarts.min.js
	"$PYTHON" "$HERE/echarts.py" check "$file" "$ECHARTS_SHA256" && return
	say "fetching ECharts"
	local tmp
	tmp=$(mktemp -d)
	if pip download -q --no-deps --only-binary=:all: -d "$tmp" "$ECHARTS_WHEEL" &&
		"$PYTHON" "$HERE/echarts.py" extract "$tmp" "$ECHARTS_MEMBER" "$ECHARTS_SHA256" "$file"; then
		rm -rf "$tmp"
	else
		rm -rf "$tmp"
		say "ECharts could not be fetched: charts fall back to text and a web page; run this again with a network"
	fi
}

# The settings of every program of the project, for `. .venv/carso-env`. What is already set stays.
write_env() {
	local backend
	backend="xla:$VENV/$(cat "$SHARE/plugin")"
	# As in internal/xlaenv, which also sets what goes with it for NVIDIA's libraries.
	case $(cat "$SHARE/plugin") in *cuda*) backend+=",notf32" ;; esac
	{
		echo "# Written by internal/setup/setup.sh."
		printf 'export GOMLX_BACKEND="${GOMLX_BACKEND:-%s}"\n' "$backend"
		echo 'export GLIBC_TUNABLES="${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}"' # see memory.HugePages
		echo 'export GOMLX_NO_AUTO_INSTALL="${GOMLX_NO_AUTO_INSTALL:-1}"'
		printf 'export CARSO_ECHARTS="${CARSO_ECHARTS:-%s}"\n' "$SHARE/echarts.min.js"
	} | replace "$VENV/carso-env"
}

install_jupyter() {
	stamped jupyter "${NOTEBOOK[*]}" "$("$PYTHON" -V)" && [ -d "$(site)/jupyterlab" ] && [ -d "$(site)/nbclient" ] && return
	say "installing JupyterLab"
	pip install -q "${NOTEBOOK[@]}" || fail "pip could not install JupyterLab: is the network there?"
	done_with jupyter "${NOTEBOOK[*]}" "$("$PYTHON" -V)"
}

# go_tool_is FILE VERSION: the Go program FILE was built from VERSION with the present Go.
go_tool_is() {
	local info
	info=$(go version -m "$1" 2>/dev/null) || return 1
	[[ $info == *": $(go env GOVERSION)"* && $info == *$'\tmod\t'*$'\t'"$2"* ]]
}

install_go_tools() {
	local gonb
	gonb=$(cd "$ROOT" && go list -m -f '{{.Version}}' github.com/janpfeifer/gonb) || fail "go.mod does not name github.com/janpfeifer/gonb"
	if ! go_tool_is "$VENV/bin/gonb" "$gonb"; then
		say "building gonb $gonb"
		(cd "$ROOT" && go build -o "$VENV/bin/gonb" github.com/janpfeifer/gonb) || fail "gonb does not build"
	fi
	if ! go_tool_is "$VENV/bin/goimports" "$GOIMPORTS"; then
		say "building goimports $GOIMPORTS"
		(cd / && GOFLAGS= GOBIN=$VENV/bin go install "golang.org/x/tools/cmd/goimports@$GOIMPORTS") || fail "goimports does not build"
	fi
}

# The kernel starts through a script whose settings are defaults: the "env" of a kernel.json would win over the caller's.
install_kernel() {
	local kernels=$VENV/share/jupyter
	{
		cat <<-SH
			#!/bin/sh
			# Written by internal/setup/setup.sh.
			export CARSO_ROOT="$ROOT"
			export PATH="$VENV/bin:$(dirname "$(command -v go)"):\$PATH"
			. "$VENV/carso-env"
			# Without debug information a cell links in half the time.
			export GOFLAGS="\${CARSO_GOFLAGS:--ldflags=-w}"
			# gonb runs "go get" before every cell: without a proxy it keeps to the versions in this repository's go.mod.
			export GOPROXY="\${CARSO_GOPROXY:-off}"
			# The kernel's own log; what cells write goes to the notebook.
			exec "$VENV/bin/gonb" "\$@" 2>"$SHARE/kernel.log"
		SH
	} | replace "$VENV/bin/carso-kernel"
	chmod +x "$VENV/bin/carso-kernel"
	local inputs=("$ROOT" "$(cksum <"$VENV/bin/gonb")" "$(cksum <"$HERE/setup.sh")" "$(cksum <"$HERE/kernel.py")")
	stamped kernel "${inputs[@]}" && [ -s "$kernels/kernels/gonb/kernel.json" ] && return
	# -go_work makes this module's packages importable from a notebook in any folder.
	local log
	log=$(JUPYTER_DATA_DIR=$kernels PATH=$VENV/bin:$PATH "$VENV/bin/gonb" --install --force_deps --raw_error -go_work="$ROOT" 2>&1) ||
		fail "gonb could not install its kernel: $log"
	"$PYTHON" "$HERE/kernel.py" "$kernels/kernels/gonb/kernel.json" "$VENV/bin/carso-kernel"
	done_with kernel "${inputs[@]}"
}

install_extension() {
	local extension=$VENV/share/jupyter/labextensions/carso-echarts
	mkdir -p "$extension/static"
	cp "$HERE/jupyter/carso-echarts/package.json" "$extension/"
	cp "$HERE/jupyter/carso-echarts/static/remoteEntry.js" "$extension/static/"
	[ ! -s "$SHARE/echarts.min.js" ] || cp "$SHARE/echarts.min.js" "$extension/static/"
	# JupyterLab asks at its first start whether it may fetch news, and looks for updates: neither belongs here.
	echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' |
		replace "$VENV/share/jupyter/lab/settings/overrides.json"
}

prepare_go() {
	say "compiling the packages"
	(cd "$ROOT" && go build -ldflags=-w ./...) || say "a package does not compile; cells that import it will fail"
	# A notebook's workspace reads go.mod files that a build never fetches: with them notebooks run offline.
	(cd "$ROOT" && go list -m all >/dev/null) || fail "Go could not fetch the modules of go.mod: is the network there?"
}

main() {
	case ${1:-} in
	base | notebooks) ;;
	*) fail "say what to install: setup.sh base, or setup.sh notebooks" ;;
	esac
	# Two runs at once would write the same files.
	mkdir -p "$VENV"
	if command -v flock >/dev/null; then
		exec 9>"$VENV/.setup-lock"
		flock 9
	fi
	make_venv
	install_plugin
	install_echarts
	write_env
	[ "$1" = notebooks ] || return 0
	command -v go >/dev/null || fail "go is missing: install Go $(awk '$1 == "go" {print $2}' "$ROOT/go.mod") or newer"
	install_jupyter
	install_go_tools
	install_kernel
	install_extension
	prepare_go
}

main "$@"
