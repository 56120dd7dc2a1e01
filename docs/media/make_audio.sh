#!/bin/sh
# Speaks the audio notes that ship with the package: our own sentences, a synthetic voice.
#
# Needs espeak-ng and ffmpeg with libopus (Debian: apt-get install espeak-ng ffmpeg). Nothing of this
# is needed at run time: the OGG files are committed.
# Run: sh docs/media/make_audio.sh [FOLDER]
set -eu

folder=${1:-$(dirname "$0")/../../warmup_pipeline/data/media}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"

# note NAME VARIANT PITCH WORDS_PER_MINUTE SENTENCE
note() {
    espeak-ng -v "pt-br+$2" -p "$3" -s "$4" -w "$work/$1.wav" "$5"
    # A quarter second of room before and after; bitexact: no encoder version or random serial inside.
    ffmpeg -nostdin -loglevel error -y -i "$work/$1.wav" \
        -af "adelay=250,apad=pad_dur=0.25,highpass=f=90,lowpass=f=7000" \
        -ac 1 -ar 48000 -c:a libopus -b:a 24k -application voip \
        -map_metadata -1 -fflags +bitexact -flags:a +bitexact "$folder/$1.ogg"
    echo "$1.ogg: $(wc -c <"$folder/$1.ogg") bytes"
}

note hello     f3 55 160 "Oi, tudo bem? Faz tempo que a gente não se fala."
note on-my-way m3 45 170 "Tô chegando, viu? O trânsito tá meio parado."
note coffee    f2 50 165 "Passa aqui mais tarde pra tomar um café comigo."
note rain      m1 40 175 "Começou a chover forte aqui. Fecha a janela aí!"
note film      f4 60 165 "Vi aquele filme que você falou. Gostei muito!"
note thanks    m7 50 160 "Adorei o bolo, ficou uma delícia. Valeu mesmo!"
note weekend   f5 48 170 "E aí, o que você vai fazer no fim de semana?"
