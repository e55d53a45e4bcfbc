<?php
// The source of about.php.
require __DIR__ . '/../told.php';
echo 'about', told();
