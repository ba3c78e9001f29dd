# The programs as packages of nixpkgs.
final: _prev: import ./programs.nix final
