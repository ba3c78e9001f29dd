# The book (docs/), as web pages.
{
  runCommand,
  mdbook,
  lib,
}:
runCommand "care-federation-book"
  {
    nativeBuildInputs = [ mdbook ];
    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions [ ../docs ];
    };
    meta.description = "The book of care-federation";
  }
  ''
    cp -r $src/docs docs
    chmod -R u+w docs
    mdbook build docs --dest-dir $out
  ''
