# One program of the package, copied out, so that what it needs at run time is the C library alone.
{
  stdenvNoCC,
  cargo,
  rustc,
  python3,
  care-federation,
  name,
  description,
}:
stdenvNoCC.mkDerivation {
  pname = name;
  inherit (care-federation) version;

  dontUnpack = true;
  installPhase = ''
    runHook preInstall
    install -D -m 0755 ${care-federation}/bin/${name} $out/bin/${name}
    for directory in man/man1 bash-completion/completions fish/vendor_completions.d zsh/site-functions; do
      for file in ${care-federation}/share/$directory/*; do
        case ''${file##*/} in
          ${name}* | _${name}) install -D -m 0644 "$file" "$out/share/$directory/''${file##*/}" ;;
        esac
      done
    done
    runHook postInstall
  '';

  # A host that runs the program gets no compiler and no interpreter with it; the build proves it.
  disallowedRequisites = [
    cargo
    rustc
    python3
  ];

  meta = {
    inherit description;
    mainProgram = name;
    inherit (care-federation.meta) license platforms;
  };
}
